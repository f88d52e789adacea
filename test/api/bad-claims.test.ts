import { afterAll, beforeAll, expect, it } from 'vitest';
import { furnished, type Furnished } from '../support/api-world.ts';

/** Claims that cannot be, or cannot be now: each gets its reason, and changes nothing. */

let f: Furnished;
let session: string;
beforeAll(async () => {
  f = await furnished();
  session = (await f.world.openSession(f.haproxy, 'edge-1', 'haproxy')).id;
});
afterAll(async () => f.world[Symbol.asyncDispose]());

const tcp = { protocol: 'tcp' };
const place = { address: '198.51.100.0', first_port: 8_192 };
const invalid = 'validation_failed';
type Row = readonly [what: string, request: object, status: number, code: string, ...paths: string[]];

const rows: readonly Row[] = [
  ['labels that no pool has', { claims: [{ ...tcp, select: 'country=fr' }] }, 409, 'no_slices'],
  ['a selector that is none', { claims: [{ ...tcp, select: 'country in' }] }, 400, invalid, 'body.claims[0].select'],
  ['a selector that says nothing', { claims: [{ ...tcp, select: '' }] }, 400, invalid, 'body.claims[0].select'],
  ['a count of nothing', { claims: [{ ...tcp, count: 0 }] }, 400, invalid, 'body.claims[0].count'],
  ['a place for several leases', { claims: [{ ...tcp, count: 2, at: place }] }, 400, invalid, 'body.claims[0].count'],
  [
    'a place and an address',
    { claims: [{ ...tcp, address: place.address, at: place }] },
    400,
    invalid,
    'body.claims[0].address',
  ],
  ['too many leases', { claims: [{ ...tcp, count: 1_024 }, { protocol: 'udp' }] }, 400, invalid, 'body.claims'],
  ['a placement nobody knows', { claims: [tcp], placement: 'near' }, 400, invalid, 'body.placement'],
  ['stickiness in words', { claims: [{ ...tcp, sticky: 'yes' }] }, 400, invalid, 'body.claims[0].sticky'],
  ['an address of nobody', { claims: [{ ...tcp, address: '203.0.113.1' }] }, 409, 'no_slices'],
  ['an address of another machine', { claims: [{ ...tcp, address: '198.51.100.1' }] }, 409, 'no_slices'],
  [
    'an address of the other family',
    { claims: [{ ...tcp, family: 6, address: place.address }] },
    400,
    invalid,
    'body.claims[0].address',
  ],
  [
    'a place of the other family',
    { claims: [{ ...tcp, family: 6, at: place }] },
    400,
    invalid,
    'body.claims[0].at.address',
  ],
  [
    'more than one address has',
    { claims: [{ ...tcp, ports: 2_048, count: 2 }], placement: 'same_address' },
    503,
    'no_ports',
  ],
];

it.each(rows.map(([what, request, status, code, ...paths]) => ({ what, request, status, code, paths })))(
  '$what',
  async ({ request, status, code, paths }) => {
    const before = f.world.snapshot();
    const body = { session, ...request };
    const answer = await f.world.call('POST', '/v1/leases?wait=stored', { token: f.haproxy, body });
    expect(answer.refusal, answer.text).toEqual([status, code]);
    expect(answer.paths).toEqual(paths);
    expect(f.world.snapshot()).toBe(before);
  },
);
