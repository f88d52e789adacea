import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ipv4FromNumber, type Address } from '../../src/net/address.ts';
import {
  parsePrefix,
  prefixAddress,
  prefixBounds,
  prefixContains,
  prefixesOverlap,
  type Prefix,
} from '../../src/net/prefix.ts';

const prefix = (text: string): Prefix => {
  const result = parsePrefix(text);
  if (!result.ok) throw new Error(result.error);
  return result.value;
};

describe('parsePrefix', () => {
  it('writes a network in one way', () => {
    expect(prefix('198.51.100.0/24')).toBe('198.51.100.0/24');
    expect(prefix('2001:0DB8::/48')).toBe('2001:db8::/48');
    expect(prefix('192.0.2.7/32')).toBe('192.0.2.7/32');
  });

  it('says what the network would be when host bits are set', () => {
    expect(parsePrefix('198.51.100.7/24')).toEqual({
      ok: false,
      error: '"198.51.100.7/24" has host bits set; the network is 198.51.100.0/24',
    });
  });

  it.each(['198.51.100.0', '198.51.100.0/33', '2001:db8::/129', '/24', 'pool', ''])('refuses %j', (text) => {
    expect(parsePrefix(text).ok).toBe(false);
  });
});

describe('a prefix', () => {
  it('knows how many addresses it has, also when that is more than a number holds exactly', () => {
    expect(prefixBounds(prefix('198.51.100.0/24')).count).toBe(256n);
    expect(prefixBounds(prefix('2001:db8::/48')).count).toBe(1n << 80n);
  });

  it('contains exactly the addresses that it counts to', () => {
    const network = prefix('198.51.100.64/26');
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 0xffff_ffff }), (n) => {
        const inside = n >= 0xc6336440 && n < 0xc6336440 + 64;
        expect(prefixContains(network, ipv4FromNumber(n))).toBe(inside);
      }),
    );
    expect(prefixAddress(network, 0n)).toBe('198.51.100.64');
    expect(prefixAddress(network, 63n)).toBe('198.51.100.127');
    expect(prefixContains(network, '2001:db8::1' as Address)).toBe(false);
  });

  it.each([
    ['198.51.100.0/24', '198.51.100.128/25', true],
    ['198.51.100.0/25', '198.51.100.128/25', false],
    ['2001:db8::/32', '2001:db8:ffff::/48', true],
    ['0.0.0.0/0', '2001:db8::/32', false],
  ])('%s and %s overlap: %s', (a, b, expected) => {
    expect(prefixesOverlap(prefix(a), prefix(b))).toBe(expected);
    expect(prefixesOverlap(prefix(b), prefix(a))).toBe(expected);
  });
});
