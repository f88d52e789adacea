import type { Family } from '../../net/address.ts';
import { formatPorts } from '../../net/ports.ts';
import { prefixFamily, type Prefix } from '../../net/prefix.ts';
import type { PathRule, Paths } from '../../terminate/paths.ts';
import { drop, families, hex32, ip, isFrom, type Chains } from './words.ts';

/**
 * What of the table leads clients' TCP connections to the terminator. It begins in chain `steer`, behind what is addressed to a
 * pool and before what is fish's.
 */
export type TerminateInput = Readonly<{
  /** Where the terminator listens, on 127.0.0.1 and ::1. */
  port: number;
  /** Of packets for its sockets: a rule on it leads them to this host, whatever their address. */
  mark: number;
  paths: Paths;
}>;

const none: Chains = { terminate: [], terminate_chosen: [], terminate_taken: [] };

/** The way to these chains; nothing on a host without a terminator, or without clients. */
export const toTerminate = (input: TerminateInput | null, clients: readonly string[]): readonly string[] =>
  input === null || clients.length === 0
    ? []
    : [`${isFrom(clients)} meta l4proto { tcp, icmp, icmpv6 } jump terminate`];

export function terminateChains({
  terminate: input,
  markMask,
}: Readonly<{ terminate: TerminateInput | null; markMask: number }>): Chains {
  if (input === null) return none;
  const { port, mark, paths } = input;
  const known = 'counter name "terminate_known" goto terminate_taken';
  return {
    terminate: [
      // What is for this host itself is nobody else's.
      'fib daddr type { local, broadcast, anycast, multicast } return',
      // About a packet that one of its sockets sent, in the name of the origin: the path's MTU, above all.
      `meta l4proto { icmp, icmpv6 } socket transparent 1 ${known}`,
      'meta l4proto { icmp, icmpv6 } return',
      // A connection stays where it began, whatever the rules say by now. One whose socket is gone was fish's, if anybody's.
      `tcp flags & (syn | ack) != syn socket transparent 1 ${known}`,
      'tcp flags & (syn | ack) != syn return',
      ...paths.rules.flatMap((rule) => families.flatMap((family) => choice(rule, family))),
      ...(paths.otherwise === 'terminate' ? ['goto terminate_chosen'] : []),
    ],
    terminate_chosen: [
      // Without a listener the rule does not match.
      `meta nfproto ipv4 meta l4proto tcp tproxy ip to 127.0.0.1:${port} counter name "terminate_new" goto terminate_taken`,
      `meta nfproto ipv6 meta l4proto tcp tproxy ip6 to [::1]:${port} counter name "terminate_new" goto terminate_taken`,
      drop('terminate_absent'),
    ],
    terminate_taken: [`meta mark set meta mark & ${hex32(~markMask)} | ${hex32(mark & markMask)} accept`],
  };
}

/** A rule about one family; none where it cannot match any address of that. */
function choice({ clients, destinations, ports, path }: PathRule, family: Family): readonly string[] {
  const within = (prefixes: readonly Prefix[]) => prefixes.filter((prefix) => prefixFamily(prefix) === family);
  const isAbsent = (prefixes: readonly Prefix[]) => prefixes.length > 0 && within(prefixes).length === 0;
  if (isAbsent(clients) || isAbsent(destinations)) return [];
  const list = (items: readonly string[]) => `{ ${[...new Set(items)].join(', ')} }`;
  return [
    [
      `meta nfproto ipv${family}`,
      ...(clients.length > 0 ? [`${ip(family)} saddr ${list(within(clients))}`] : []),
      ...(destinations.length > 0 ? [`${ip(family)} daddr ${list(within(destinations))}`] : []),
      ...(ports.length > 0 ? [`tcp dport ${list(ports.map(formatPorts))}`] : []),
      path === 'terminate' ? 'goto terminate_chosen' : 'return',
    ].join(' '),
  ];
}
