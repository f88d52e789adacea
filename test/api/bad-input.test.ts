import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { AppliedAnswer } from '../../src/wire/agent.ts';
import type { Lease } from '../../src/wire/leases.ts';
import { Session } from '../../src/wire/sessions.ts';
import { furnished, type CallOptions, type Furnished, type Method } from '../support/api-world.ts';

/**
 * Every malformed, oversized, overlapping, contradictory or late request gets a problem document with a stable code, and
 * changes nothing: the whole store is compared after each of them.
 */

let f: Furnished;
/** Of haproxy on edge-1, live. */
let session: string;
/** Of haproxy in that session, pending. */
let lease: Lease;
let endedSession: string;
let endedLease: Lease;

beforeAll(async () => {
  f = await furnished({ limits: { body_bytes_max: 20_000 } });
  const open = () => f.world.openSession(f.haproxy, 'edge-1', 'haproxy');
  const grant = async (of: string): Promise<Lease> => {
    const [granted] = await f.world.grant(f.haproxy, of, [{ protocol: 'tcp', ports: 64 }]);
    if (granted === undefined) throw new Error('one was asked for');
    return granted;
  };
  session = (await open()).id;
  endedSession = (await open()).id;
  lease = await grant(session);
  endedLease = await grant(endedSession);
  await f.world.must(Session, 'DELETE', `/v1/sessions/${endedSession}`);
});
afterAll(async () => f.world[Symbol.asyncDispose]());

let before: string;
beforeEach(() => {
  before = f.world.snapshot();
});
afterEach(() => {
  expect(f.world.snapshot()).toBe(before);
});

/** A body, or a function of what `beforeAll` made. */
type Given = object | string | number | null | undefined | (() => object);
type Row = readonly [what: string, body: Given, status: number, code: string, ...paths: string[]];

/** One request per row, and what must come back: status, code, and the paths of every wrong part, in order. */
function refuses(method: Method, url: string | (() => string), rows: readonly Row[], options: CallOptions = {}): void {
  const named = rows.map(([what, body, status, code, ...paths]) => ({ what, body, status, code, paths }));
  it.each(named)('$what', async ({ body, status, code, paths }) => {
    const path = typeof url === 'string' ? url : url();
    const answer = await f.world.call(method, path, {
      ...options,
      body: typeof body === 'function' ? (body as () => object)() : body,
    });
    expect(answer.refusal, answer.text).toEqual([status, code]);
    const { type, request_id, detail } = answer.problem;
    expect(type).toBe(`/docs/errors#${code}`);
    expect(request_id).toBe(answer.headers['x-request-id']);
    expect(detail.length).toBeGreaterThan(5);
    expect(answer.paths).toEqual(paths);
  });
}

const invalid = 'validation_failed';

describe('POST /v1/pools', () => {
  const pool = (over: object) => ({ id: 'p2', prefixes: ['203.0.113.0/28'], ...over });
  refuses('POST', '/v1/pools', [
    ['nothing', {}, 400, invalid, 'body.id', 'body.prefixes'],
    ['no object', [], 400, invalid, 'body'],
    ['null', null, 400, invalid, 'body'],
    ['a number', 3, 400, invalid, 'body'],
    ['unknown fields', pool({ colour: 'red', 'a b': 1 }), 400, invalid, 'body.colour', 'body["a b"]'],
    ['a name with capitals', pool({ id: 'Fra1' }), 400, invalid, 'body.id'],
    ['a name in another script', pool({ id: 'бассейн' }), 400, invalid, 'body.id'],
    ['a name with a zero byte', pool({ id: 'p\u0000' }), 400, invalid, 'body.id'],
    ['a name with a lone surrogate', pool({ id: '\ud800' }), 400, invalid, 'body.id'],
    ['a name that is a path', pool({ id: '../../etc/passwd' }), 400, invalid, 'body.id'],
    ['a name of 64 characters', pool({ id: 'a'.repeat(64) }), 400, invalid, 'body.id'],
    ['a name with a newline at its end', pool({ id: 'p2\n' }), 400, invalid, 'body.id'],
    ['no prefixes', pool({ prefixes: [] }), 400, invalid, 'body.prefixes'],
    ['a prefix with host bits', pool({ prefixes: ['203.0.113.1/28'] }), 400, invalid, 'body.prefixes[0]'],
    ['an address instead of a prefix', pool({ prefixes: ['203.0.113.1'] }), 400, invalid, 'body.prefixes[0]'],
    [
      'two bad prefixes',
      pool({ prefixes: ['x', '203.0.113.0/33'] }),
      400,
      invalid,
      'body.prefixes[0]',
      'body.prefixes[1]',
    ],
    ['the same prefix twice', pool({ prefixes: ['203.0.113.0/28', '203.0.113.0/28'] }), 409, 'prefix_overlap'],
    [
      'prefixes that overlap each other',
      pool({ prefixes: ['203.0.113.0/28', '203.0.113.8/30'] }),
      409,
      'prefix_overlap',
    ],
    ['addresses of no host', pool({ prefixes: ['192.0.2.0/24', '0.0.0.0/0'] }), 400, invalid, 'body.prefixes[1]'],
    ['loopback', pool({ prefixes: ['::1/128'] }), 400, invalid, 'body.prefixes[0]'],
    ['a prefix that overlaps another pool', pool({ prefixes: ['198.51.100.8/30'] }), 409, 'prefix_overlap'],
    ['a prefix around another pool', pool({ prefixes: ['198.51.0.0/16'] }), 409, 'prefix_overlap'],
    ['a name that is taken', pool({ id: 'fra1' }), 409, 'pool_exists'],
    ['a slice size that is no power of two', pool({ slice_ports: 3_000 }), 400, invalid, 'body.slice_ports'],
    ['a slice size of zero', pool({ slice_ports: 0 }), 400, invalid, 'body.slice_ports'],
    ['a negative slice size', pool({ slice_ports: -2_048 }), 400, invalid, 'body.slice_ports'],
    ['a slice size with a fraction', pool({ slice_ports: 2_048.5 }), 400, invalid, 'body.slice_ports'],
    ['a slice size as text', pool({ slice_ports: '2048' }), 400, invalid, 'body.slice_ports'],
    ['a slice larger than all ports', pool({ slice_ports: 131_072 }), 400, invalid, 'body.slice_ports'],
    [
      'a shared block that is no power of two',
      pool({ shared_block_ports: 100 }),
      400,
      invalid,
      'body.shared_block_ports',
    ],
    [
      'usable ports that end before they begin',
      pool({ usable_ports: { first: 9, last: 8 } }),
      400,
      invalid,
      'body.usable_ports',
    ],
    [
      'usable ports above 65535',
      pool({ usable_ports: { first: 0, last: 65_536 } }),
      400,
      invalid,
      'body.usable_ports.last',
    ],
    [
      'usable ports in which no slice fits',
      pool({ usable_ports: { first: 2_000, last: 4_000 } }),
      422,
      'pool_too_small',
    ],
    ['a negative cooldown', pool({ cooldown_s: { tcp: -1 } }), 400, invalid, 'body.cooldown_s.tcp'],
    ['a cooldown for another protocol', pool({ cooldown_s: { sctp: 1 } }), 400, invalid, 'body.cooldown_s.sctp'],
    ['a label that is no text', pool({ labels: { site: 1 } }), 400, invalid, 'body.labels.site'],
    ['a label with a bad key', pool({ labels: { 'Site!': 'x' } }), 400, invalid, 'body.labels["Site!"]'],
    [
      '33 labels',
      pool({ labels: Object.fromEntries(Array.from({ length: 33 }, (_, i) => [`k${i}`, 'v'])) }),
      400,
      invalid,
      'body.labels',
    ],
    [
      'everything wrong at once',
      { id: 'X', prefixes: 'all', slice_ports: 7, extra: 1 },
      400,
      invalid,
      'body.id',
      'body.prefixes',
      'body.slice_ports',
      'body.extra',
    ],
  ]);
});

describe('PATCH pools', () => {
  refuses('PATCH', '/v1/pools/fra1', [
    ['multicast', { prefixes: ['198.51.100.0/28', '224.0.0.0/8'] }, 400, invalid, 'body.prefixes[1]'],
    ['link-local', { prefixes: ['fe80::/64', '127.0.0.0/8'] }, 400, invalid, 'body.prefixes[0]', 'body.prefixes[1]'],
    ['IPv4 in IPv6 form', { prefixes: ['::ffff:198.51.100.0/124'] }, 400, invalid, 'body.prefixes[0]'],
  ]);
});

describe('POST and PATCH machines', () => {
  refuses('POST', '/v1/machines', [
    ['a name that is taken', { id: 'edge-1' }, 409, 'machine_exists'],
    ['an enforcement that does not exist', { id: 'm', enforcement: 'maybe' }, 400, invalid, 'body.enforcement'],
    ['a fence of one second', { id: 'm', fence_s: 1 }, 400, invalid, 'body.fence_s'],
    ['a fence of two hours', { id: 'm', fence_s: 7_200 }, 400, invalid, 'body.fence_s'],
  ]);
  refuses('PATCH', '/v1/machines/edge-1', [
    ['a state that only the server sets', { state: 'fenced' }, 400, invalid, 'body.state'],
    ['a field that stays', { enforcement: 'none' }, 400, invalid, 'body.enforcement'],
  ]);
  refuses('PATCH', '/v1/machines/nowhere', [['an unknown machine', { state: 'cordoned' }, 404, 'machine_not_found']]);
});

describe('PUT holders', () => {
  refuses('PUT', '/v1/machines/edge-1/holders/new', [
    ['a fish with a uid', { kind: 'fish', uid: 1 }, 400, invalid, 'body'],
    ['a proxy without a uid where an agent guards', { kind: 'proxy' }, 409, 'holder_needs_identity'],
    ['root', { kind: 'proxy', uid: 0 }, 422, 'holder_uid_root'],
    ['a fish with a cgroup', { kind: 'fish', cgroup: 'web.slice' }, 400, invalid, 'body'],
    ['a uid and a cgroup', { kind: 'proxy', uid: 7, cgroup: 'web.slice' }, 400, invalid, 'body'],
    ['a cgroup with a leading slash', { kind: 'proxy', cgroup: '/web.slice' }, 400, invalid, 'body.cgroup'],
    ['the root cgroup', { kind: 'proxy', cgroup: '' }, 400, invalid, 'body.cgroup'],
    ['a cgroup that climbs', { kind: 'proxy', cgroup: 'web.slice/../mail.slice' }, 400, invalid, 'body.cgroup'],
    ['a cgroup too deep', { kind: 'proxy', cgroup: 'a/'.repeat(16) + 'a' }, 400, invalid, 'body.cgroup'],
    ['a cgroup with a space', { kind: 'proxy', cgroup: 'web slice' }, 400, invalid, 'body.cgroup'],
    ['the uid of another holder', { kind: 'proxy', uid: 1_002 }, 409, 'holder_uid_taken'],
    ['a negative uid', { kind: 'proxy', uid: -1 }, 400, invalid, 'body.uid'],
    ['the uid that means no user', { kind: 'proxy', uid: 4_294_967_295 }, 400, invalid, 'body.uid'],
  ]);
  refuses('PUT', '/v1/machines/edge-1/holders/haproxy', [['another kind', { kind: 'fish' }, 409, 'holder_kind_fixed']]);
  refuses('PUT', '/v1/machines/nowhere/holders/x', [
    ['an unknown machine', { kind: 'fish' }, 404, 'machine_not_found'],
  ]);
  refuses('PUT', '/v1/machines/edge-1/holders/..%2f..%2fetc', [
    ['a path as a name', { kind: 'fish' }, 400, invalid, 'path.name'],
  ]);
});

describe('POST /v1/slices', () => {
  const at = (address: string, first_port: number) => ({
    machine: 'edge-1',
    pool: 'fra1',
    at: { address, first_port },
  });
  refuses('POST', '/v1/slices', [
    ['an unknown machine', { machine: 'nowhere', pool: 'fra1' }, 404, 'machine_not_found'],
    ['an unknown pool', { machine: 'edge-1', pool: 'nowhere' }, 404, 'pool_not_found'],
    ['none at all', { machine: 'edge-1', pool: 'fra1', count: 0 }, 400, invalid, 'body.count'],
    ['too many for one request', { machine: 'edge-1', pool: 'fra1', count: 1_025 }, 400, invalid, 'body.count'],
    ['more than the pool has', { machine: 'edge-1', pool: 'fra1', count: 1_000 }, 409, 'slices_exhausted'],
    ['a family that the pool has not', { machine: 'edge-1', pool: 'fra1', family: 6 }, 409, 'slices_exhausted'],
    ['a family that does not exist', { machine: 'edge-1', pool: 'fra1', family: 5 }, 400, invalid, 'body.family'],
    ['an address outside the pool', at('198.51.100.77', 8_192), 422, 'slice_outside_pool'],
    ['ports outside the usable range', at('198.51.100.1', 2_048), 422, 'slice_outside_pool'],
    ['a misaligned first port', at('198.51.100.1', 8_193), 422, 'slice_misaligned'],
    ['a slice that is taken', at('198.51.100.0', 8_192), 409, 'slice_taken'],
    ['two slices at one place', { ...at('198.51.100.1', 8_192), count: 2 }, 400, invalid, 'body'],
    ['an address that is none', at('198.51.100.300', 8_192), 400, invalid, 'body.at.address'],
    ['an address with leading zeros', at('198.051.100.1', 8_192), 400, invalid, 'body.at.address'],
    ['an IPv4 address in IPv6 form', at('::ffff:198.51.100.1', 8_192), 400, invalid, 'body.at.address'],
    ['an address with a zone', at('fe80::1%eth0', 8_192), 400, invalid, 'body.at.address'],
  ]);
});

describe('drain and unblock', () => {
  refuses('POST', '/v1/slices/slice-99999/drain', [['an unknown slice', undefined, 404, 'slice_not_found']]);
  refuses('POST', () => `/v1/slices/${f.slice}/drain`, [
    ['a force that is no yes or no', { force: 1 }, 400, invalid, 'body.force'],
  ]);
  refuses('POST', () => `/v1/slices/${f.slice}/unblock`, [
    ['what is not blocked', { protocol: 'tcp', ports: { first: 8_192, last: 8_255 } }, 409, 'nothing_blocked'],
    ['ports outside the slice', { protocol: 'tcp', ports: { first: 1, last: 2 } }, 409, 'nothing_blocked'],
    [
      'ports that end before they begin',
      { protocol: 'tcp', ports: { first: 9_000, last: 8_999 } },
      400,
      invalid,
      'body.ports',
    ],
    ['another protocol', { protocol: 'sctp', ports: { first: 1, last: 2 } }, 400, invalid, 'body.protocol'],
  ]);
});

describe('POST /v1/sessions', () => {
  refuses('POST', '/v1/sessions', [
    ['an unknown machine', { machine: 'nowhere', holder: 'haproxy' }, 404, 'machine_not_found'],
    ['an unknown holder', { machine: 'edge-1', holder: 'nobody' }, 404, 'holder_not_found'],
    ['a TTL of one second', { machine: 'edge-1', holder: 'haproxy', ttl_s: 1 }, 400, invalid, 'body.ttl_s'],
    ['a negative TTL', { machine: 'edge-1', holder: 'haproxy', ttl_s: -30 }, 400, invalid, 'body.ttl_s'],
    [
      'a TTL that is not a number',
      { machine: 'edge-1', holder: 'haproxy', ttl_s: 'forever' },
      400,
      invalid,
      'body.ttl_s',
    ],
    ['milliseconds', { machine: 'edge-1', holder: 'haproxy', ttl_ms: 30_000 }, 400, invalid, 'body.ttl_ms'],
  ]);
});

describe('a session that is over or unknown', () => {
  refuses('POST', () => `/v1/sessions/${endedSession}/keepalive`, [['is not kept', undefined, 410, 'session_ended']]);
  refuses('DELETE', () => `/v1/sessions/${endedSession}`, [['is not ended again', undefined, 410, 'session_ended']]);
  refuses('POST', '/v1/sessions/session-99999/keepalive', [['is not found', undefined, 404, 'session_not_found']]);
  refuses('POST', '/v1/leases', [
    ['grants nothing', () => ({ session: endedSession, claims: [{ protocol: 'tcp' }] }), 410, 'session_ended'],
    [
      'that never was grants nothing',
      { session: 'session-99999', claims: [{ protocol: 'tcp' }] },
      404,
      'session_not_found',
    ],
  ]);
});

describe('POST /v1/leases', () => {
  const grant =
    (...claims: unknown[]) =>
    () => ({ session, claims });
  refuses('POST', '/v1/leases?wait=stored', [
    ['no claims', grant(), 400, invalid, 'body.claims'],
    ['257 claims', grant(...Array.from({ length: 257 }, () => ({ protocol: 'tcp' }))), 400, invalid, 'body.claims'],
    ['a claim without a protocol', grant({}), 400, invalid, 'body.claims[0].protocol'],
    ['a lease as session', () => ({ session: lease.id, claims: [{ protocol: 'tcp' }] }), 400, invalid, 'body.session'],
    ['no ports', grant({ protocol: 'tcp', ports: 0 }), 400, invalid, 'body.claims[0].ports'],
    ['negative ports', grant({ protocol: 'tcp', ports: -1 }), 400, invalid, 'body.claims[0].ports'],
    ['a number that is not exact', grant({ protocol: 'tcp', ports: 1e300 }), 400, invalid, 'body.claims[0].ports'],
    ['more ports than a slice has', grant({ protocol: 'tcp', ports: 4_096 }), 422, 'ports_exceed_slice'],
    ['shared UDP', grant({ protocol: 'udp', mode: 'shared' }), 422, 'shared_needs_tcp'],
    ['shared ICMP', grant({ protocol: 'icmp', mode: 'shared' }), 422, 'shared_needs_tcp'],
    ['a binding without sharing', grant({ protocol: 'tcp', binding: 'late' }), 422, 'binding_needs_shared'],
    [
      'a misaligned place',
      grant({ protocol: 'tcp', ports: 64, at: { address: '198.51.100.0', first_port: 8_200 } }),
      422,
      'block_misaligned',
    ],
    [
      'a place on another machine',
      grant({ protocol: 'tcp', ports: 64, at: { address: '198.51.100.0', first_port: 10_240 } }),
      409,
      'block_not_owned',
    ],
    [
      'a place nobody has',
      grant({ protocol: 'tcp', ports: 64, at: { address: '203.0.113.9', first_port: 8_192 } }),
      409,
      'block_not_owned',
    ],
    [
      'a place that is leased',
      () => ({
        session,
        claims: [{ protocol: 'tcp', ports: 64, at: { address: lease.address, first_port: lease.ports.first } }],
      }),
      409,
      'block_taken',
    ],
    ['an unknown pool', grant({ protocol: 'tcp', pool: 'other' }), 404, 'pool_not_found'],
    ['a family without slices here', grant({ protocol: 'tcp', family: 6 }), 409, 'no_slices'],
    [
      'one good claim and one bad',
      grant({ protocol: 'tcp' }, { protocol: 'udp', mode: 'shared' }),
      422,
      'shared_needs_tcp',
    ],
    [
      'more than there is in all',
      grant({ protocol: 'udp', ports: 2_048 }, { protocol: 'udp', ports: 1 }),
      503,
      'no_ports',
    ],
    [
      'two mistakes in two claims',
      grant({ protocol: 'x' }, { protocol: 'tcp', port: 1 }),
      400,
      invalid,
      'body.claims[0].protocol',
      'body.claims[1].port',
    ],
  ]);
  refuses('POST', '/v1/leases?wait=forever&timeout_s=-1&wiat=stored', [
    [
      'mistakes in body and query together',
      { session: 'x', claims: [{ protocol: 'tcp' }] },
      400,
      invalid,
      'body.session',
      'query.wait',
      'query.timeout_s',
      'query.wiat',
    ],
  ]);
});

describe('release and revoke', () => {
  refuses('POST', () => `/v1/leases/${lease.id}/release`, [
    ['an older generation', { token: '0.1.1' }, 409, 'stale_token'],
    ['the token of another lease', () => ({ token: endedLease.token }), 409, 'stale_token'],
    ['no token', {}, 400, invalid, 'body.token'],
    ['a token that is none', { token: 'mine' }, 400, invalid, 'body.token'],
  ]);
  refuses('POST', () => `/v1/leases/${endedLease.id}/release`, [
    ['a lease that ended with its session', () => ({ token: endedLease.token }), 410, 'lease_over'],
  ]);
  refuses('POST', () => `/v1/leases/${endedLease.id}/revoke`, [['a lease that is over', {}, 410, 'lease_over']]);
  refuses('POST', '/v1/leases/lease-99999/release', [['an unknown lease', { token: '1.1.1' }, 404, 'lease_not_found']]);
  refuses('POST', () => `/v1/leases/${lease.id}/revoke`, [
    ['a reason of a page', { reason: 'x'.repeat(201) }, 400, invalid, 'body.reason'],
  ]);
});

describe('what an agent reports', () => {
  const url = '/v1/machines/edge-1/applied';
  const applied = (over: object) => ({ revision: 0, leases: [], slices: [], ...over });
  const report = (over: object) => ({ lease: 'lease-1', token: '1.1.1', state: 'active', ...over });
  const call = (body: unknown) => f.world.call('POST', url, { token: f.agent, body });

  it.each([
    [
      'a refusal without its errno',
      applied({ leases: [report({ state: 'refused' })] }),
      ['body.leases[0].errno', 'body.leases[0].detail'],
    ],
    ['a state that is none', applied({ leases: [report({ state: 'fine' })] }), ['body.leases[0].state']],
    ['an errno beside a success', applied({ leases: [report({ errno: 'E' })] }), ['body.leases[0].errno']],
    ['a negative revision', applied({ revision: -1 }), ['body.revision']],
    [
      'a generation of zero',
      applied({ slices: [{ slice: 'slice-1', generation: 0, state: 'empty' }] }),
      ['body.slices[0].generation'],
    ],
  ])('%s is not valid', async (_what, body, paths) => {
    const answer = await call(body);
    expect(answer.refusal).toEqual([400, invalid]);
    expect(answer.paths).toEqual(paths);
  });

  it('about a lease that is unknown, stale or not its own moves nothing and is listed', async () => {
    const stale = { lease: lease.id, token: '9.9.9' };
    const answer = await call(
      applied({
        leases: [report({ ...stale, state: 'active' }), report({ lease: 'lease-99999' })],
        slices: [{ slice: f.slice, generation: 7, state: 'empty' }],
      }),
    );
    expect(answer.as(AppliedAnswer).rejected.map(({ item, code }) => [item, code])).toEqual([
      [lease.id, 'stale_token'],
      ['lease-99999', 'lease_not_found'],
      [f.slice, 'stale_token'],
    ]);
    const foreign = await f.world.must(AppliedAnswer, 'POST', '/v1/machines/edge-2/applied', {
      token: f.otherAgent,
      body: applied({ leases: [{ lease: lease.id, token: lease.token, state: 'empty' }] }),
    });
    expect(foreign.rejected).toMatchObject([{ item: lease.id, code: 'not_yours' }]);
  });

  it('to a question that nobody asked is told so', async () => {
    const body = { id: 'flow-77', covers_since: null, covers_through: null, clock_margin_s: 0, flows: [] };
    const answer = await f.world.call('POST', '/v1/machines/edge-1/flow-answers', { token: f.agent, body });
    expect(answer.refusal).toEqual([410, 'flow_query_over']);
  });
});

describe('POST /v1/tokens', () => {
  refuses('POST', '/v1/tokens', [
    ['an agent of no machine', { name: 'x', role: 'agent' }, 400, invalid, 'body'],
    ['a holder of no holder', { name: 'x', role: 'holder', machine: 'edge-1' }, 400, invalid, 'body'],
    ['an operator of one machine', { name: 'x', role: 'operator', machine: 'edge-1' }, 400, invalid, 'body'],
    ['an unknown machine', { name: 'x', role: 'agent', machine: 'nowhere' }, 404, 'machine_not_found'],
    ['an unknown holder', { name: 'x', role: 'holder', machine: 'edge-1', holder: 'nobody' }, 404, 'holder_not_found'],
    ['a role that is none', { name: 'x', role: 'root' }, 400, invalid, 'body.role'],
    ['a secret of one’s own', { name: 'x', role: 'viewer', secret: 'fsh_x' }, 400, invalid, 'body.secret'],
  ]);
  refuses('DELETE', '/v1/tokens/token-99999', [['an unknown token', undefined, 404, 'token_not_found']]);
});

describe('a query', () => {
  it.each([
    ['/v1/leases?limit=0', 'query.limit'],
    ['/v1/leases?limit=1001', 'query.limit'],
    ['/v1/leases?limit=', 'query.limit'],
    ['/v1/leases?limit=0x10', 'query.limit'],
    ['/v1/leases?limit=1e2', 'query.limit'],
    ['/v1/leases?limit=1.5', 'query.limit'],
    ['/v1/leases?limit=10&limit=20', 'query.limit'],
    ['/v1/leases?limit=%00', 'query.limit'],
    ['/v1/leases?state=alive', 'query.state'],
    ['/v1/leases?slice=12', 'query.slice'],
    ['/v1/leases?sort=port', 'query.sort'],
    ['/v1/leases?cursor=%27%20or%201=1', 'query.cursor'],
    ['/v1/leases?cursor=MjQ=', 'query.cursor'],
    ['/v1/leases?cursor=ZWRnZS0x', 'query.cursor'],
    ['/v1/pools?cursor=..%2f', 'query.cursor'],
    ['/v1/slices?address=everywhere', 'query.address'],
    ['/v1/events?after=-1', 'query.after'],
    ['/v1/events?after=soon', 'query.after'],
    ['/v1/attribution/history', 'query.address'],
    ['/v1/attribution/history?address=198.51.100.0', 'query.port'],
    ['/v1/attribution/history?port=5', 'query.address'],
    ['/v1/attribution/history?machine=edge-1', 'query.holder'],
    ['/v1/attribution/history?holder=web', 'query.machine'],
    ['/v1/attribution/history?address=198.51.100.0&port=5&machine=edge-1&holder=web', 'query.address'],
    ['/v1/attribution/history?machine=edge-1&holder=web&protocol=tcp', 'query.protocol'],
    ['/v1/attribution/history?machine=edge-1&holder=web&since=yesterday', 'query.since'],
    ['/v1/attribution/history?machine=a&holder=b&since=2026-02-01T00:00:00Z&until=2026-01-01T00:00:00Z', 'query.since'],
    ['/v1/attribution/history?machine=a&holder=b&cursor=bm9uc2Vuc2U', 'query.cursor'],
    ['/v1/attribution?address=198.51.100.0&protocol=tcp', 'query.port'],
    ['/v1/attribution?address=198.51.100.0&protocol=tcp&port=70000', 'query.port'],
    ['/v1/attribution?address=198.51.100.0&protocol=tcp&port=', 'query.port'],
    ['/v1/attribution?address=198.51.100.0&protocol=tcp&port=9001&at=yesterday', 'query.at'],
    ['/v1/attribution?address=198.51.100.0&protocol=tcp&port=9001&at=2026-02-30T00:00:00Z', 'query.at'],
    ['/v1/attribution?address=198.51.100.0&protocol=tcp&port=9001&remote_port=443', 'query.remote_address'],
    ['/v1/attribution?address=198.51.100.0&protocol=tcp&port=9001&remote_address=203.0.113.8', 'query.remote_port'],
    ['/v1/pools/fra1?verbose=1', 'query.verbose'],
    ['/v1/machines/edge-1/watch?from=-3', 'query.from'],
  ])('%s', async (url, path) => {
    const answer = await f.world.call('GET', url);
    expect(answer.refusal, answer.text).toEqual([400, invalid]);
    expect(answer.paths).toEqual([path]);
  });

  it('about the future has no answer', async () => {
    const answer = await f.world.call(
      'GET',
      '/v1/attribution?address=198.51.100.0&protocol=tcp&port=9001&at=2099-01-01T00:00:00Z',
    );
    expect(answer.refusal).toEqual([422, 'instant_in_future']);
  });
});

describe('an identifier', () => {
  it.each([
    '/v1/leases/..%2f..%2fetc%2fpasswd',
    '/v1/leases/lease-0',
    '/v1/leases/lease-01',
    '/v1/leases/lease--1',
    '/v1/leases/lease-1e3',
    '/v1/leases/LEASE-1',
    '/v1/leases/session-1',
    '/v1/leases/lease-1%00',
    '/v1/leases/%F0%9F%90%9F',
    '/v1/leases/lease-99999999999999999',
    '/v1/sessions/..%2f',
    '/v1/slices/1',
    '/v1/pools/%3Cscript%3E',
    '/v1/pools/a%0d%0aset-cookie:x',
    '/v1/machines/__proto__',
  ])('%s is no identifier', async (url) => {
    const answer = await f.world.call('GET', url);
    expect(answer.refusal, answer.text).toEqual([400, invalid]);
    expect(answer.paths).toEqual(['path.id']);
  });

  it.each([
    ['/v1/leases/lease-9999999999999999', 'lease_not_found'],
    ['/v1/slices/slice-99999', 'slice_not_found'],
    ['/v1/slices/slice-99999/extents', 'slice_not_found'],
    ['/v1/sessions/session-99999', 'session_not_found'],
    ['/v1/pools/nowhere', 'pool_not_found'],
    ['/v1/pools/constructor', 'pool_not_found'],
    ['/v1/machines/nowhere', 'machine_not_found'],
    ['/v1/machines/nowhere/holders', 'machine_not_found'],
    ['/v1/machines/nowhere/desired', 'machine_not_found'],
    ['/v1/machines/nowhere/watch', 'machine_not_found'],
    ['/v1/nothing', 'not_found'],
    ['/v1', 'not_found'],
    ['/v1/pools/', 'validation_failed'],
  ])('%s names nothing: %s', async (url, code) => {
    const answer = await f.world.call('GET', url);
    expect(answer.code, answer.text).toBe(code);
  });

  it('that is too long is refused before it is looked at, and not repeated', async () => {
    const answer = await f.world.call('GET', `/v1/pools/${'a'.repeat(5_000)}`);
    expect(answer.refusal).toEqual([414, 'uri_too_long']);
    expect(answer.text.length).toBeLessThan(1_500);
  });

  it('with a broken escape is refused', async () => {
    expect((await f.world.call('GET', '/v1/pools/%zz')).code).toBe('malformed_request');
  });
});
