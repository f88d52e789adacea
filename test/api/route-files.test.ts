import { describe, expect, it } from 'vitest';
import { csvFile, jsonFile, nftFile, type RouteFile } from '../../src/api/route-files.ts';
import { RouteSnapshot, type Route } from '../../src/wire/routes.ts';

const route = (over: Partial<Route> = {}): Route => ({
  ...{ slice: 'slice-12', pool: 'fra1', address: '198.51.100.10', ports: { first: 8_192, last: 10_239 } },
  ...{ machine: 'edge-1', mark: 257, next_hop: '192.0.2.11', generation: 1, revision: 12 },
  ...over,
});
const bare = { machine: 'edge-2', mark: null, next_hop: null };
const six = { address: '2001:db8::1', ports: { first: 0, last: 65_535 }, next_hop: '2001:db8:f::1' };
const file = (routes: readonly Route[], sliceSizes: readonly number[] = [2_048]): RouteFile => ({
  ...{ epoch: 'e"1', revision: 57, sliceSizes },
  routes,
});
const text = (pieces: Iterable<string>): string => [...pieces].join('');

describe('routes as JSON', () => {
  it.each([[[]], [[route()]], [[route(), route({ ...bare }), route(six)]]])(
    'are what the schema says: %#',
    (routes) => {
      expect(RouteSnapshot.parse(JSON.parse(text(jsonFile(file(routes)))))).toEqual({
        epoch: 'e"1',
        revision: 57,
        routes,
      });
    },
  );
});

describe('routes as CSV', () => {
  it('have a header, a line each, and nothing where there is nothing', () => {
    expect(text(csvFile(file([route(), route(bare)]))).split('\r\n')).toEqual([
      'address,first_port,last_port,machine,mark,next_hop,pool,slice,generation,revision',
      '198.51.100.10,8192,10239,edge-1,257,192.0.2.11,fra1,slice-12,1,12',
      '198.51.100.10,8192,10239,edge-2,,,fra1,slice-12,1,12',
      '',
    ]);
  });
});

describe('routes for nftables', () => {
  const lines = (routes: readonly Route[], sizes?: readonly number[]): readonly string[] =>
    text(nftFile(file(routes, sizes))).split('\n');

  it('are in the map of their family and size, by address and first port', () => {
    const found = text(
      nftFile(file([route(), route({ ports: { first: 10_240, last: 12_287 }, mark: 258 }), route(six)])),
    );
    expect(found).toContain(
      'add element inet fishery_routes mark4_2048 {\n  198.51.100.10 . 8192 : 257,\n  198.51.100.10 . 10240 : 258\n}\n',
    );
    expect(found).toContain(
      'add element inet fishery_routes next_hop6_65536_icmp {\n  2001:db8::1 . 0 : 2001:db8:f::1\n}\n',
    );
    expect(found).toContain('ip6 daddr . (th dport & 0x0000) map @mark6_65536\n');
    expect(found).toContain('ip daddr . (th dport & 0xf800) map @mark4_2048\n');
  });

  it('have maps, emptied, also where there is no route now: what was there before must not stay', () => {
    const found = lines([], [128]);
    for (const name of ['mark4_128', 'mark4_128_icmp', 'next_hop4_128', 'mark6_128'])
      expect(found).toContain(`flush map inet fishery_routes ${name}`);
    expect(found.some((line) => line.startsWith('add element'))).toBe(false);
  });

  it('say which of them no mark leads to', () => {
    expect(lines([route(), route(bare)])).toContain(
      '# 1 of them have no mark, because their machines have none: edge-2',
    );
    const many = Array.from({ length: 25 }, (_, n) => route({ ...bare, machine: `m${n}` }));
    expect(lines(many)[2]).toMatch(/ and 5 more$/);
    expect(lines([route()])[2]).toBe('add table inet fishery_routes');
  });
});
