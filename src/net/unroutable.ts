import { prefixesOverlap, type Prefix } from './prefix.ts';

/** Addresses that no host has toward others, by the registries of special-purpose addresses (RFC 6890). */
const unroutable = [
  ['0.0.0.0/8', '"this network"'],
  ['127.0.0.0/8', 'loopback'],
  ['169.254.0.0/16', 'link-local'],
  ['224.0.0.0/4', 'multicast'],
  ['240.0.0.0/4', 'reserved, with the broadcast address'],
  ['::/128', 'the unspecified address'],
  ['::1/128', 'loopback'],
  ['::ffff:0:0/96', 'IPv4 addresses in IPv6 form'],
  ['fe80::/10', 'link-local'],
  ['ff00::/8', 'multicast'],
] as const;

/** Why no packets of machines can come from all of the prefix: what it lies in, or holds. Undefined when they can. */
export function unroutableIn(prefix: Prefix): string | undefined {
  // Written here, in the canonical form.
  const found = unroutable.find(([range]) => prefixesOverlap(range as Prefix, prefix));
  return found && `${found[0]} is ${found[1]}`;
}
