import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  addressFromBigInt,
  addressToBigInt,
  addressToBytes,
  familyOf,
  ipv4FromNumber,
  ipv4ToNumber,
  parseAddress,
  type Address,
} from '../../src/net/address.ts';

const parsed = (text: string): Address => {
  const result = parseAddress(text);
  if (!result.ok) throw new Error(result.error);
  return result.value;
};

describe('parseAddress', () => {
  it.each([
    ['198.51.100.10', '198.51.100.10'],
    ['2001:DB8:0:0:0:0:0:10', '2001:db8::10'],
    ['2001:db8::0010', '2001:db8::10'],
    ['::', '::'],
  ])('writes %s as %s, so that equal text is the same address', (given, canonical) => {
    expect(parsed(given)).toBe(canonical);
  });

  it.each([
    '',
    '198.51.100',
    '198.51.100.256',
    '198.51.100.010',
    '198.51.100.10/32',
    'fe80::1%eth0',
    '::ffff:192.0.2.1',
    '2001:db8::/32',
    'x',
  ])('refuses %j', (text) => {
    expect(parseAddress(text).ok).toBe(false);
  });
});

describe('conversions', () => {
  it('come back to the same address for every IPv4 number', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 0xffff_ffff }), (n) => {
        const address = ipv4FromNumber(n);
        expect(parsed(address)).toBe(address);
        expect(ipv4ToNumber(address)).toBe(n);
        expect([...addressToBytes(address)]).toEqual([n >>> 24, (n >>> 16) & 255, (n >>> 8) & 255, n & 255]);
      }),
    );
  });

  it('come back to the same address for every IPv6 number', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 1n << 64n, max: (1n << 128n) - 1n }), (n) => {
        const address = addressFromBigInt(6, n);
        expect(familyOf(address)).toBe(6);
        expect(addressToBigInt(parsed(address))).toBe(n);
        expect(BigInt(`0x${Buffer.from(addressToBytes(address)).toString('hex')}`)).toBe(n);
      }),
    );
  });
});
