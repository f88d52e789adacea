import { familyOf, type Address } from '../net/address.ts';
import { prefixContains, prefixFamily, type Prefix } from '../net/prefix.ts';
import type { PortRange } from '../net/ports.ts';

/** Where a client's TCP connection goes: it is accepted here and carried on by a socket of this host, or its packets are translated. */
export type Path = 'terminate' | 'packet';

/** A rule about connections. What it does not name (an empty list) it does not look at. */
export type PathRule = Readonly<{
  clients: readonly Prefix[];
  destinations: readonly Prefix[];
  ports: readonly PortRange[];
  path: Path;
}>;

/** The rules in their order, and where a connection goes that none of them is about. */
export type Paths = Readonly<{ rules: readonly PathRule[]; otherwise: Path }>;

export type ClientConnection = Readonly<{ client: Address; destination: Address; port: number }>;

/** The path of a connection: that of the first rule that matches. The same is said to the kernel by `terminateChains`. */
export function choosePath({ rules, otherwise }: Paths, connection: ClientConnection): Path {
  return rules.find((rule) => matches(rule, connection))?.path ?? otherwise;
}

const matches = (
  { clients, destinations, ports }: PathRule,
  { client, destination, port }: ClientConnection,
): boolean =>
  isIn(clients, client) &&
  isIn(destinations, destination) &&
  (ports.length === 0 || ports.some(({ first, last }) => first <= port && port <= last));

const isIn = (prefixes: readonly Prefix[], address: Address): boolean =>
  prefixes.length === 0 ||
  prefixes.some((prefix) => prefixFamily(prefix) === familyOf(address) && prefixContains(prefix, address));
