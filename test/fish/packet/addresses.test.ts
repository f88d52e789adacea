import { fc, test } from '@fast-check/vitest';
import { describe, expect } from 'vitest';
import { ipv4FromNumber, type Address } from '../../../src/net/address.ts';
import { prefixContains, type Prefix } from '../../../src/net/prefix.ts';
import { AddressSet, isRoutableUnicast, isRoutableUnicast6, PrefixList } from '../../../src/fish/packet/addresses.ts';
import { addressNumber } from '../../support/packets.ts';
import { address6Bytes, address6Text } from '../../support/packets6.ts';

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

  const wordsOf = (address: string): [number, number, number, number] => {
    const view = new DataView(Uint8Array.from(address6Bytes(address)).buffer);
    return [view.getUint32(0), view.getUint32(4), view.getUint32(8), view.getUint32(12)];
  };

  test.each([
    ['::', false],
    ['::1', false],
    ['::ffff:c000:201', false],
    ['::c000:201', false],
    ['64:ff9b::c000:201', true],
    ['64:ff9b:1::1', false],
    ['100::1', true],
    ['2001:db8::1', true],
    ['fc00::1', true],
    ['fdff:ffff::1', true],
    ['fe7f::1', true],
    ['fe80::1', false],
    ['febf:ffff::1', false],
    ['fec0::1', true],
    ['ff02::1', false],
    ['ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', false],
  ])('%s can be one host’s on a routed IPv6 network: %s', (address, expected) => {
    const [first, second] = wordsOf(address);
    expect(isRoutableUnicast6(first, second)).toBe(expected);
  });

  const prefixes6 = [
    '2001:db8:c::/48',
    '2001:db8::1/128',
    '8000::/1',
    '2001:db8:e:4::/62',
    '2001:db8:f::f0/124',
  ] as Prefix[];
  const near = [
    '2001:db8:c::',
    '2001:db8:c:ffff:ffff:ffff:ffff:ffff',
    '2001:db8:d::',
    '2001:db8::1',
    '2001:db8::2',
    '9::1',
    '2001:db8:e:7::1',
    '2001:db8:e:8::1',
    '2001:db8:f::ff',
    '2001:db8:f::100',
  ];
  test.prop([
    fc.subarray(prefixes6),
    fc.oneof(fc.uint8Array({ minLength: 16, maxLength: 16 }).map(address6Text), fc.constantFrom(...near)),
  ])('a list of IPv6 prefixes contains what one of them contains, and of IPv4 nothing changes', (members, address) => {
    const expected = members.some((prefix) => prefixContains(prefix, address as Address));
    const list = new PrefixList([...members, '192.0.2.0/24' as Prefix]);
    expect(list.contains6(...wordsOf(address))).toBe(expected);
    expect([list.contains(0xc0000201), list.contains(0xc0000301)]).toEqual([true, false]);
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
      const set = new AddressSet(members);
      for (const each of members) expect(set.has(each)).toBe(true);
      for (const each of [...others, 0]) expect(set.has(each)).toBe(members.includes(each));
    },
  );
});
