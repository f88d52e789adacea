import { Address4, Address6 } from 'ip-address';
import { err, ok, type Result } from './result.ts';

export type Family = 4 | 6;

/** An IP address in canonical text (RFC 5952 for IPv6, no leading zeros for IPv4): equal text is the same address. */
export type Address = string & { readonly __brand: 'Address' };

export const familyOf = (address: Address): Family => (address.includes(':') ? 6 : 4);

/** Checks and canonicalises. IPv4-mapped IPv6 and zone identifiers are refused: they name no address of a pool. */
export function parseAddress(text: string): Result<Address, string> {
  if (Address4.isValid(text) && !text.includes('/')) return ok(new Address4(text).correctForm() as Address);
  if (Address6.isValid(text) && !text.includes('/') && !text.includes('%')) {
    const address = new Address6(text);
    if (address.is4()) return err(`"${text}" is an IPv4 address in IPv6 form; write it as IPv4`);
    return ok(address.correctForm() as Address);
  }
  return err(`"${text}" is not an IP address`);
}

export const addressToBigInt = (address: Address): bigint =>
  familyOf(address) === 4 ? new Address4(address).bigInt() : new Address6(address).bigInt();

export const addressFromBigInt = (family: Family, value: bigint): Address =>
  (family === 4 ? Address4.fromBigInt(value).correctForm() : Address6.fromBigInt(value).correctForm()) as Address;

/** Text that sorts as addresses do, IPv4 before IPv6: what a database can look a prefix up by. */
export const addressKey = (address: Address): string => keyOf(familyOf(address), addressToBigInt(address));
export const keyOf = (family: Family, value: bigint): string =>
  `${family}${value.toString(16).padStart(family === 4 ? 8 : 32, '0')}`;

/** Network byte order: 4 or 16 bytes. */
export function addressToBytes(address: Address): Uint8Array {
  const size = familyOf(address) === 4 ? 4 : 16;
  const bytes = new Uint8Array(size);
  let value = addressToBigInt(address);
  for (let i = size - 1; i >= 0; i--, value >>= 8n) bytes[i] = Number(value & 0xffn);
  return bytes;
}

/** An IPv4 address as an unsigned 32-bit number, the form that packet code works on. */
export const ipv4ToNumber = (address: Address): number => Number(addressToBigInt(address));
export const ipv4FromNumber = (value: number): Address =>
  `${value >>> 24}.${(value >>> 16) & 255}.${(value >>> 8) & 255}.${value & 255}` as Address;
