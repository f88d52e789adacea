import { Address4, Address6 } from 'ip-address';
import { addressFromBigInt, addressToBigInt, familyOf, keyOf, type Address, type Family } from './address.ts';
import { err, ok, type Result } from './result.ts';

/** A network in canonical text, host bits zero: `198.51.100.0/24`, `2001:db8::/48`. */
export type Prefix = string & { readonly __brand: 'Prefix' };

/** Checks and canonicalises; host bits that are set are an error, because they usually are a typing mistake. */
export function parsePrefix(text: string): Result<Prefix, string> {
  const address = Address4.isValid(text) ? new Address4(text) : Address6.isValid(text) ? new Address6(text) : undefined;
  if (!address || !text.includes('/') || text.includes('%'))
    return err(`"${text}" is not a prefix like 198.51.100.0/24`);
  const start = address.startAddress().correctForm();
  if (start !== address.correctForm())
    return err(`"${text}" has host bits set; the network is ${start}/${address.subnetMask}`);
  return ok(`${start}/${address.subnetMask}` as Prefix);
}

type Bounds = Readonly<{ family: Family; first: bigint; count: bigint }>;

export function prefixBounds(prefix: Prefix): Bounds {
  const [base = '', length = ''] = prefix.split('/');
  const family = familyOf(base as Address);
  const bits = (family === 4 ? 32 : 128) - Number(length);
  return { family, first: addressToBigInt(base as Address), count: 1n << BigInt(bits) };
}

export const prefixFamily = (prefix: Prefix): Family => (prefix.includes(':') ? 6 : 4);

export function prefixContains(prefix: Prefix, address: Address): boolean {
  const { family, first, count } = prefixBounds(prefix);
  const value = addressToBigInt(address);
  return familyOf(address) === family && value >= first && value < first + count;
}

/** The keys (see `addressKey`) of its first and its last address. */
export function prefixKeys(prefix: Prefix): Readonly<{ first: string; last: string }> {
  const { family, first, count } = prefixBounds(prefix);
  return { first: keyOf(family, first), last: keyOf(family, first + count - 1n) };
}

/** The prefix of one address. */
export const hostPrefix = (address: Address): Prefix => `${address}/${familyOf(address) === 4 ? 32 : 128}` as Prefix;

/** Whether all of `inner` lies in `outer`. */
export function prefixHolds(outer: Prefix, inner: Prefix): boolean {
  const x = prefixBounds(outer);
  const y = prefixBounds(inner);
  return x.family === y.family && x.first <= y.first && y.first + y.count <= x.first + x.count;
}

export function prefixesOverlap(a: Prefix, b: Prefix): boolean {
  const x = prefixBounds(a);
  const y = prefixBounds(b);
  return x.family === y.family && x.first < y.first + y.count && y.first < x.first + x.count;
}

/** The address `index` places after the network address. */
export function prefixAddress(prefix: Prefix, index: bigint): Address {
  const { family, first } = prefixBounds(prefix);
  return addressFromBigInt(family, first + index);
}
