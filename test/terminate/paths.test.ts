import { describe, expect, it } from 'vitest';
import type { Address } from '../../src/net/address.ts';
import type { Prefix } from '../../src/net/prefix.ts';
import { choosePath, type PathRule, type Paths } from '../../src/terminate/paths.ts';

const rule = (over: Partial<PathRule>): PathRule => ({
  clients: [],
  destinations: [],
  ports: [],
  path: 'terminate',
  ...over,
});
const pathOf = (paths: Paths, client: string, destination: string, port: number) =>
  choosePath(paths, { client: client as Address, destination: destination as Address, port });

describe('the path of a connection', () => {
  it('is that of the first rule that matches', () => {
    const paths: Paths = {
      rules: [
        rule({ clients: ['100.64.7.0/24' as Prefix], path: 'packet' }),
        rule({ clients: ['100.64.0.0/10' as Prefix], destinations: ['203.0.113.0/24' as Prefix] }),
        rule({ clients: ['100.64.0.0/10' as Prefix], path: 'packet' }),
      ],
      otherwise: 'terminate',
    };
    expect(pathOf(paths, '100.64.7.1', '203.0.113.1', 443)).toBe('packet');
    expect(pathOf(paths, '100.64.8.1', '203.0.113.1', 443)).toBe('terminate');
    expect(pathOf(paths, '100.64.8.1', '198.51.100.1', 443)).toBe('packet');
    expect(pathOf(paths, '10.0.0.1', '198.51.100.1', 443)).toBe('terminate');
  });

  it('can depend on the port, whose range has both its ends', () => {
    const paths: Paths = { rules: [rule({ ports: [{ first: 80, last: 443 }] })], otherwise: 'packet' };
    expect([79, 80, 443, 444].map((port) => pathOf(paths, '10.0.0.1', '203.0.113.1', port))).toEqual([
      'packet',
      'terminate',
      'terminate',
      'packet',
    ]);
  });

  it('is judged by prefixes of its own family', () => {
    const paths: Paths = {
      rules: [rule({ destinations: ['0.0.0.0/0' as Prefix, '2001:db8:f::/48' as Prefix] })],
      otherwise: 'packet',
    };
    expect(pathOf(paths, '10.0.0.1', '203.0.113.1', 80)).toBe('terminate');
    expect(pathOf(paths, '2001:db8::1', '2001:db8:f::1', 80)).toBe('terminate');
    expect(pathOf(paths, '2001:db8::1', '2001:db8:e::1', 80)).toBe('packet');
  });
});
