import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { access, type OperationId } from '../../src/api/access.ts';
import { revisionIn } from '../../src/api/entity-tags.ts';
import { LeaseList, type Lease } from '../../src/wire/leases.ts';
import { Pool } from '../../src/wire/pools.ts';
import { SliceList } from '../../src/wire/slices.ts';
import { TokenCreated } from '../../src/wire/tokens.ts';
import { furnished, type Furnished, type Method } from '../support/api-world.ts';

/** Operations that are called with another method than GET and decide nothing in the core, with the reason. */
const cannotBeTried: Partial<Record<OperationId, string>> = {
  attributeBulk: 'reads: its list is too long for a query',
  explainGrant: 'reads: it says what would be, and changes nothing',
  answerFlowQuery: 'passes an answer on to whoever asked, and writes nothing',
  answerRequest: 'passes an answer on to whoever asked, and writes nothing',
};

let f: Furnished;
let session: string;
let lease: Lease;
let token: string;
let secret: string;
let before: string;
beforeAll(async () => {
  f = await furnished();
  session = (await f.world.openSession(f.haproxy, 'edge-1', 'haproxy')).id;
  const [granted] = await f.world.grant(f.haproxy, session, [{ protocol: 'tcp', ports: 16 }]);
  if (granted === undefined) throw new Error('one was asked for');
  lease = granted;
  const created = { name: 'ci', role: 'viewer' };
  const made = await f.world.must(TokenCreated, 'POST', '/v1/tokens', { body: created });
  token = made.token.id;
  secret = made.secret;
});
afterAll(async () => f.world[Symbol.asyncDispose]());
beforeEach(() => {
  before = f.world.snapshot();
});
afterEach(() => {
  expect(f.world.snapshot()).toBe(before);
});

describe('every operation that changes something', () => {
  it('can be tried', () => {
    const changing = f.world.app.operations.filter(({ method }) => method !== 'GET');
    const without = changing.filter(({ operation }) => operation.dryRun !== true).map(({ operation }) => operation.id);
    expect(without.toSorted()).toEqual(Object.keys(cannotBeTried).toSorted());
    expect(changing.length).toBeGreaterThan(without.length);
    expect(Object.keys(access)).toEqual(expect.arrayContaining(without));
  });

  it.each([
    ['POST', '/v1/pools', { id: 'x', prefixes: ['192.0.2.0/28'] }],
    ['PATCH', '/v1/pools/fra1', { labels: { site: 'x' } }],
    ['POST', '/v1/machines', { id: 'x' }],
    ['PATCH', '/v1/machines/edge-1', { state: 'cordoned' }],
    ['PUT', '/v1/machines/edge-1/holders/x', { kind: 'proxy', uid: 7 }],
    ['POST', '/v1/slices', { machine: 'edge-1', pool: 'fra1' }],
    ['POST', () => `/v1/slices/${f.slice}/drain`, undefined],
    ['POST', () => `/v1/slices/${f.slice}/move`, { machine: 'edge-2' }],
    ['POST', () => `/v1/slices/${f.slice}/allocator`, { allocator: 'machine', force: true }],
    ['POST', '/v1/revocations', { machine: 'edge-1', forced: true }],
    ['POST', '/v1/sessions', { machine: 'edge-1', holder: 'squid' }],
    ['POST', () => `/v1/sessions/${session}/keepalive`, undefined],
    ['DELETE', () => `/v1/sessions/${session}`, undefined],
    ['POST', () => `/v1/leases/${lease.id}/release`, () => ({ token: lease.token })],
    ['POST', () => `/v1/leases/${lease.id}/revoke`, {}],
    ['POST', '/v1/tokens', { name: 'x', role: 'viewer' }],
    ['DELETE', () => `/v1/tokens/${token}`, undefined],
  ] satisfies [Method, string | (() => string), object | (() => object) | undefined][])(
    '%s %s says what would be, and nothing is',
    async (method, url, body) => {
      const path = typeof url === 'string' ? url : url();
      const given = typeof body === 'function' ? (body as () => object)() : body;
      const answer = await f.world.call(method, `${path}?dry_run=true`, given === undefined ? {} : { body: given });
      expect([200, 201], answer.text).toContain(answer.status);
      expect(answer.headers['fishery-dry-run']).toBe('true');
      expect(answer.headers).not.toHaveProperty('etag');
    },
  );
});

describe('a dry run', () => {
  it('of a grant names the ports and does not wait for the agent', async () => {
    const body = { session, claims: [{ protocol: 'tcp', ports: 16 }] };
    const answer = await f.world.call('POST', '/v1/leases?dry_run=true', { token: f.haproxy, body });
    const [would] = answer.as(LeaseList).leases;
    expect([answer.status, would?.state, would?.ports]).toEqual([201, 'pending', { first: 10_208, last: 10_223 }]);
    expect((await f.world.call('GET', `/v1/leases/${would?.id}`)).code).toBe('lease_not_found');
  });

  it('says why not, marked as a dry run too', async () => {
    const answer = await f.world.call('POST', '/v1/machines?dry_run=true', { body: { id: 'edge-1' } });
    expect([...answer.refusal, answer.headers['fishery-dry-run']]).toEqual([409, 'machine_exists', 'true']);
  });

  it('is for whoever may do it in earnest', async () => {
    const body = { machine: 'edge-1', pool: 'fra1' };
    const refused = await f.world.call('POST', '/v1/slices?dry_run=true', { token: f.haproxy, body });
    expect(refused.refusal).toEqual([403, 'forbidden']);
    const allowed = await f.world.must(SliceList, 'POST', '/v1/slices?dry_run=true', { body });
    expect(allowed.slices).toHaveLength(1);
  });

  it('is said in so many words: nothing else is taken for it', async () => {
    for (const query of ['dry_run', 'dry_run=1', 'dry_run=yes', 'dryRun=true'])
      expect((await f.world.call('POST', `/v1/machines?${query}`, { body: { id: 'x' } })).code).toBe(
        'validation_failed',
      );
    expect((await f.world.call('GET', '/v1/machines?dry_run=true')).code).toBe('validation_failed');
  });

  it('shows no revision that a later change of somebody else would have', async () => {
    await using world = (await furnished()).world;
    const url = '/v1/pools/fra1';
    const tried = await world.call('PATCH', `${url}?dry_run=true`, { body: { labels: { by: 'me' } } });
    expect(tried.headers['etag']).toBeUndefined();
    const would = tried.as(Pool).revision;
    const theirs = await world.call('PATCH', url, { body: { labels: { by: 'them' } } });
    expect(revisionIn(String(theirs.headers['etag']))).toBe(would);
  });

  it('of a revocation leaves the token in force', async () => {
    const answer = await f.world.call('DELETE', `/v1/tokens/${token}?dry_run=true`);
    expect(answer.status).toBe(200);
    expect((await f.world.call('GET', '/v1/pools', { token: secret })).status).toBe(200);
  });
});
