import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { addressFromBigInt } from '../../src/net/address.ts';
import { parsePrefix, type Prefix } from '../../src/net/prefix.ts';
import { unroutableIn } from '../../src/net/unroutable.ts';

function prefix(text: string): Prefix {
  const parsed = parsePrefix(text);
  if (!parsed.ok) throw new Error(parsed.error);
  return parsed.value;
}

describe('a prefix', () => {
  it.each([
    ...['192.0.2.0/24', '198.51.100.0/24', '203.0.113.0/24', '198.18.0.0/15', '2001:db8::/32', '3fff::/20'],
    ...['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '100.64.0.0/10', 'fd00::/8', '64:ff9b::/96', '::1:0:0/96'],
    ...['1.0.0.0/8', '126.0.0.0/8', '128.0.0.0/8', '169.253.0.0/16', '169.255.0.0/16', '223.255.255.255/32', '::2/128'],
    ...['fe00::/9', 'fec0::/10', 'fdff::/16', '::fffe:0:0/96'],
  ])('may be %s', (text) => {
    expect(unroutableIn(prefix(text))).toBeUndefined();
  });

  it.each([
    ...[
      '0.0.0.0/0',
      '0.0.0.0/32',
      '0.255.255.255/32',
      '0.0.0.0/1',
      '127.0.0.1/32',
      '126.0.0.0/7',
      '169.254.169.254/32',
    ],
    ...[
      '168.0.0.0/6',
      '224.0.0.1/32',
      '239.0.0.0/8',
      '192.0.0.0/2',
      '240.0.0.0/32',
      '255.255.255.255/32',
      '128.0.0.0/1',
    ],
    ...['::/0', '::/128', '::1/128', '::/127', '::/8', '::ffff:0:0/96', '::ffff:192.0.2.0/120', '::fffe:0:0/95'],
    ...['fe80::/64', 'febf::/16', 'fe00::/8', 'ff00::/8', 'ff02::1/128', 'fe00::/7', 'f000::/4', '8000::/1'],
  ])('cannot be %s', (text) => {
    expect(unroutableIn(prefix(text))).toMatch(/^[0-9a-f.:/]+ is /);
  });

  it('of IPv4 can be when it begins like addresses of hosts', () => {
    fc.assert(
      fc.property(fc.nat(0xffff_ffff), fc.integer({ min: 16, max: 32 }), (n, length) => {
        const size = 2 ** (32 - length);
        const base = n - (n % size);
        const text = `${addressFromBigInt(4, BigInt(base))}/${length}`;
        const [first, second] = [base >>> 24, (base >>> 16) & 255];
        const isOfHosts = first > 0 && first !== 127 && first < 224 && !(first === 169 && second === 254);
        expect([text, unroutableIn(prefix(text)) === undefined]).toEqual([text, isOfHosts]);
      }),
    );
  });

  it('that holds one that cannot be cannot be either', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: (1n << 128n) - 1n }), fc.integer({ min: 1, max: 128 }), (n, length) => {
        const at = (bits: number) =>
          prefix(`${addressFromBigInt(6, (n >> BigInt(128 - bits)) << BigInt(128 - bits))}/${bits}`);
        if (unroutableIn(at(length)) !== undefined) expect(unroutableIn(at(length - 1))).toBeDefined();
      }),
    );
  });
});
