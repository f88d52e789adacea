import type { Family } from '../../net/address.ts';
import { blockMask } from '../../net/ports.ts';
import { prefixFamily, type Prefix } from '../../net/prefix.ts';
import type { Protocol } from '../../net/protocol.ts';
import { setName, type Role, type SetClass } from '../host/sets.ts';
import type { CounterName } from './counters.ts';

/** The words that rules are made of, in the language of nft. */

/** A chain's name with its rules, in the order in which they are judged. */
export type Chains = Readonly<Record<string, readonly string[]>>;

export const families = [4, 6] as const;
export const hex32 = (value: number): string => `0x${(value >>> 0).toString(16).padStart(8, '0')}`;
export const drop = (reason: CounterName): string => `counter name "${reason}" drop`;

export const ip = (family: Family): string => (family === 4 ? 'ip' : 'ip6');
/** So many prefixes are compared one by one, for a quarter of what a look-up among intervals takes. */
const prefixesCompared_max = 4;

/** Matches that together say that an address is in a pool. */
export function inPools(family: Family, field: 'saddr' | 'daddr', prefixes: readonly Prefix[]): readonly string[] {
  const those = [...new Set(prefixes)].filter((prefix) => prefixFamily(prefix) === family).sort();
  if (those.length > prefixesCompared_max) return [`${ip(family)} ${field} @pool${family}`];
  return those.map((prefix) => `${ip(family)} ${field} ${prefix}`);
}

/** That a packet came in by one of these devices, or by none of them. */
export const isFrom = (devices: readonly string[], not = ''): string => {
  const names = [...new Set(devices)].map((name) => `"${name}"`);
  return names.length === 1 ? `iifname ${not}${names[0]}` : `iifname ${not}{ ${names.join(', ')} }`;
};

/**
 * The protocol as a packet of this family names it, in words that nft knows by itself: others it looks up in /etc/protocols,
 * which is not there on a minimal system.
 */
export const l4 = (protocol: Protocol, family: Family): string =>
  `meta l4proto ${protocol === 'icmp' && family === 6 ? 'icmpv6' : protocol}`;
/** Of 16 bits, those that tell one block of this size from the next. */
export const masked16 = (size: number): string => (size === 1 ? '' : ` & 0x${blockMask(size).toString(16)}`);

/** A socket that is open: a closed one has no user id. */
export const anyUser = 'meta skuid 0-4294967295';

export const echoes = (family: Family): string =>
  family === 4 ? 'icmp type { echo-reply, echo-request }' : 'icmpv6 type { echo-reply, echo-request }';
export const errors = {
  4: 'icmp type { destination-unreachable, time-exceeded, parameter-problem }',
  6: 'icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem }',
} as const;

/** Those of these roles, for packets of one family and, if that is given, of one protocol. */
export const ofRole = (
  classes: readonly SetClass[],
  family: Family,
  wanted: readonly Role[],
  protocol?: Protocol,
): readonly SetClass[] =>
  classes.filter(
    (each) =>
      each.family === family && wanted.includes(each.role) && (protocol === undefined || each.protocol === protocol),
  );

/** That a key with these fields is in the set, and what the packet must be for it to have them. */
export const isIn = (each: SetClass, key: string): string =>
  `${each.protocol === 'icmp' ? `${echoes(each.family)} ` : ''}${key} @${setName(each)}`;

/**
 * The source port or echo identifier, cut down to its block, as the second field of a key. For chains that packets of this
 * protocol alone come to: `th sport` does not look at the protocol again.
 */
export function sourceBlock({ protocol, family, size }: SetClass): string {
  const field = protocol === 'icmp' ? (family === 4 ? 'icmp id' : 'icmpv6 id') : 'th sport';
  return `${ip(family)} saddr . ${field}${masked16(size)}`;
}
