import { fc, test } from '@fast-check/vitest';
import { describe, expect } from 'vitest';
import { ipv4FromNumber } from '../../src/net/address.ts';
import { prefixContains, type Prefix } from '../../src/net/prefix.ts';
import { AddressSet, isRoutableUnicast, PrefixList } from '../../src/fish/addresses.ts';
import { addressNumber } from '../support/packets.ts';

const anyAddress = fc.nat({ max: 0xffff_ffff });

describe('addresses', () => {
  test.each([
    ['0.0.0.0', false],
    ['0.255.255.255', false],
    ['1.0.0.0', true],
    ['10.0.0.1', true],
    ['100.64.0.1', true],
    ['126.255.255.255', true],
    ['127.0.0.1', false],
    ['128.0.0.0', true],
    ['169.253.255.255', true],
    ['169.254.0.1', false],
    ['169.255.0.0', true],
    ['223.255.255.255', true],
    ['224.0.0.1', false],
    ['240.0.0.1', false],
    ['255.255.255.255', false],
  ])('%s can be one host’s on a routed network: %s', (address, expected) => {
    expect(isRoutableUnicast(addressNumber(address))).toBe(expected);
  });

  const prefixes = ['100.64.0.0/10', '192.0.2.1/32', '128.0.0.0/1', '10.1.2.0/23'] as Prefix[];
  test.prop([
    fc.subarray(prefixes),
    fc.oneof(
      anyAddress,
      fc.constantFrom(
        ...['100.63.255.255', '100.64.0.0', '100.127.255.255', '192.0.2.1', '10.1.3.255', '10.1.4.0'].map(
          addressNumber,
        ),
      ),
    ),
  ])('a list of prefixes contains what one of them contains', (members, address) => {
    const expected = members.some((prefix) => prefixContains(prefix, ipv4FromNumber(address)));
    expect(new PrefixList(members).contains(address)).toBe(expected);
  });

  test.prop([fc.uniqueArray(fc.integer({ min: 1, max: 0xffff_ffff }), { maxLength: 60 }), fc.array(anyAddress)])(
    'a set of addresses has its members and nothing else',
    (members, others) => {
      const set = new AddressSet(members.map(ipv4FromNumber));
      for (const each of members) expect(set.has(each)).toBe(true);
      for (const each of [...others, 0]) expect(set.has(each)).toBe(members.includes(each));
    },
  );
});
