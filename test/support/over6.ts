import type { Address } from '../../src/net/address.ts';

const over6s: Readonly<Record<string, string>> = {
  '100.96.0.2': '2001:db8:c::2',
  '100.96.0.3': '2001:db8:c::3',
  '203.0.113.1': '2001:db8:e::1',
  '203.0.113.2': '2001:db8:e::2',
  '198.51.100.10': '2001:db8:d::10',
  '198.51.100.11': '2001:db8:d::11',
  '192.0.2.254': '2001:db8:f::fe',
  '100.64.0.1': '2001:db8:c:1::1',
};

/** The address that takes the place of this one when the same scene is played over IPv6. */
export function over6(address: string): Address {
  const other = over6s[address];
  if (other === undefined) throw new Error(`${address} has no part in the scene over IPv6`);
  return other as Address;
}
