import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { revisionIn } from '../../src/api/entity-tags.ts';
import { Holder, Machine } from '../../src/wire/machines.ts';
import { Pool } from '../../src/wire/pools.ts';
import { Slice } from '../../src/wire/slices.ts';
import { furnished, type Furnished, type Method } from '../support/api-world.ts';

let f: Furnished;
beforeEach(async () => {
  f = await furnished();
});
afterEach(async () => f.world[Symbol.asyncDispose]());

/** What is read, and a change of it. */
const things = [
  ['a pool', Pool, () => '/v1/pools/fra1', 'PATCH', '', { labels: { a: 'b' } }],
  ['a machine', Machine, () => '/v1/machines/edge-1', 'PATCH', '', { labels: { a: 'b' } }],
  ['a slice', Slice, () => `/v1/slices/${f.slice}`, 'POST', '/drain', undefined],
] as const;

describe.each(things)('%s', (_, schema, url, method: Method, verb, body) => {
  const change = (ifMatch: string | null) =>
    f.world.call(method, `${url()}${verb}`, { ifMatch, ...(body === undefined ? {} : { body }) });

  it('shows its revision as its ETag, in reading and in changing', async () => {
    const read = await f.world.call('GET', url());
    expect(revisionIn(String(read.headers['etag']))).toBe(read.as(schema).revision);
    const changed = await change(String(read.headers['etag']));
    expect(revisionIn(String(changed.headers['etag']))).toBe(changed.as(schema).revision);
    expect((await f.world.call('GET', url())).headers['etag']).toBe(changed.headers['etag']);
    expect(changed.as(schema).revision).toBeGreaterThan(read.as(schema).revision);
  });

  it('is not changed by who does not say what was seen, or saw something else', async () => {
    const { revision } = await f.world.must(schema, 'GET', url());
    const before = f.world.snapshot();
    expect((await change(null)).refusal).toEqual([428, 'precondition_required']);
    const stale = await change(`"${revision - 1}"`);
    expect(stale.refusal).toEqual([412, 'precondition_failed']);
    expect(stale.problem.detail).toContain(`is at revision ${revision}, not ${revision - 1}`);
    const other = await change(`"${revision - 1}", "999999", "elsewhere"`);
    expect(other.refusal).toEqual([412, 'precondition_failed']);
    expect(other.problem.detail).toContain(`not ${revision - 1} or 999999`);
    for (const nonsense of [`${revision}`, `W/"${revision}"`, `"${revision}" "1"`, `"${revision}",`, '""', 'abc', '']) {
      const answer = await change(nonsense);
      expect([answer.code, answer.paths], nonsense).toEqual(['validation_failed', ['headers.if-match']]);
    }
    expect(f.world.snapshot()).toEqual(before);
  });

  it('is changed by only one of two who saw the same', async () => {
    const etag = String((await f.world.call('GET', url())).headers['etag']);
    const statuses = (await Promise.all([change(etag), change(etag)])).map(({ status }) => status);
    expect(statuses.toSorted()).toEqual([200, 412]);
  });

  it('is changed by who saw one of several', async () => {
    const { revision } = await f.world.must(schema, 'GET', url());
    expect((await change(`"${revision - 1}" , W/"7","${revision}"`)).status).toBe(200);
  });

  it('is not sent again to who has it, by GET or HEAD', async () => {
    const { headers } = await f.world.call('GET', url());
    const etag = String(headers['etag']);
    expect(headers['cache-control']).toBe('private, no-cache');
    const ask = (ifNoneMatch: string, method: Method = 'GET') =>
      f.world.call(method, url(), { headers: { 'if-none-match': ifNoneMatch } });
    for (const known of [etag, `W/${etag}`, `"other", ${etag}`, '*']) {
      const same = await ask(known);
      expect([same.status, same.text, same.headers['etag']], known).toEqual([304, '', etag]);
      expect(same.headers['content-type']).toBeUndefined();
      expect((await ask(known, 'HEAD')).status).toBe(304);
    }
    for (const unknown of ['"other"', etag.slice(1, -1), `${etag} ${etag}`, '']) {
      const whole = await ask(unknown);
      expect([whole.status, whole.headers['etag']], unknown).toEqual([200, etag]);
      expect((await ask(unknown, 'HEAD')).status).toBe(200);
    }
    await change('*');
    const anew = await ask(etag);
    expect([anew.status, anew.headers['etag'] === etag]).toEqual([200, false]);
  });

  it('is changed by who does not care', async () => {
    expect((await change('*')).status).toBe(200);
  });
});

describe('what the log does not tell', () => {
  it('makes another ETag, whose revision is good for a change all the same', async () => {
    const read = () => f.world.call('GET', '/v1/machines/edge-1');
    const before = await read();
    f.world.clock.advance_s(1);
    const body = { boot_id: 'boot', version: '0.1.0', applied_revision: 0 };
    await f.world.call('POST', '/v1/machines/edge-1/keepalive', { token: f.agent, body });
    const ifNoneMatch = { headers: { 'if-none-match': String(before.headers['etag']) } };
    const after = await f.world.call('GET', '/v1/machines/edge-1', ifNoneMatch);
    expect([after.status, after.as(Machine).revision]).toEqual([200, before.as(Machine).revision]);
    expect(after.headers['etag']).not.toBe(before.headers['etag']);
    const changed = await f.world.call('PATCH', '/v1/machines/edge-1', {
      ifMatch: String(before.headers['etag']),
      body: { labels: { a: 'b' } },
    });
    expect(changed.status).toBe(200);
    const pool = await f.world.call('GET', '/v1/pools/fra1');
    await f.world.call('POST', '/v1/slices', { body: { machine: 'edge-1', pool: 'fra1' } });
    const again = await f.world.call('GET', '/v1/pools/fra1');
    expect(again.as(Pool).revision).toBe(pool.as(Pool).revision);
    expect(again.headers['etag']).not.toBe(pool.headers['etag']);
  });
});

describe('pools', () => {
  it('are deleted by who saw them as they are', async () => {
    const pool = await f.world.must(Pool, 'POST', '/v1/pools', { body: { id: 'p', prefixes: ['203.0.113.0/30'] } });
    const remove = (ifMatch: string | null) => f.world.call('DELETE', '/v1/pools/p', { ifMatch });
    expect((await remove(null)).refusal).toEqual([428, 'precondition_required']);
    expect((await remove(`"${pool.revision + 1}"`)).refusal).toEqual([412, 'precondition_failed']);
    expect((await remove(`"${pool.revision}"`)).status).toBe(204);
    expect((await f.world.call('GET', '/v1/pools/p')).refusal).toEqual([404, 'pool_not_found']);
    expect((await remove('*')).refusal).toEqual([404, 'pool_not_found']);
  });
});

describe('holders', () => {
  const url = '/v1/machines/edge-1/holders/squid';
  const put = (body: object, ifMatch: string | null = null, at = url) =>
    f.world.call('PUT', at, { ifMatch, body: { kind: 'proxy', ...body } });

  it('show their revision as their ETag, in reading and in putting', async () => {
    const read = await f.world.call('GET', url);
    expect(read.headers['etag']).toBe(`"${read.as(Holder).revision}"`);
    const same = await put({ uid: 1_002 });
    expect(same.headers['etag']).toBe(read.headers['etag']);
    const changed = await put({ uid: 1_012 });
    expect(changed.headers['etag']).toBe(`"${changed.as(Holder).revision}"`);
    const known = await f.world.call('GET', url, { headers: { 'if-none-match': String(changed.headers['etag']) } });
    expect(known.status).toBe(304);
    expect((await put({ uid: 1_013 }, null, `${url}?dry_run=true`)).headers['etag']).toBeUndefined();
  });

  it('are put without an ETag, and with one only as they were seen', async () => {
    const { revision } = await f.world.must(Holder, 'GET', url);
    const before = f.world.snapshot();
    const stale = await put({ limits: { sessions_max: 1 } }, `"${revision + 1}"`);
    expect(stale.refusal).toEqual([412, 'precondition_failed']);
    expect(stale.problem.detail).toBe(`holder "squid" on "edge-1" is at revision ${revision}, not ${revision + 1}`);
    expect((await put({}, 'W/"1"')).paths).toEqual(['headers.if-match']);
    expect(f.world.snapshot()).toEqual(before);
    const limited = await put({ limits: { sessions_max: 1 } }, `"${revision}"`);
    expect(limited.as(Holder)).toMatchObject({ uid: 1_002, limits: { sessions_max: 1 } });
    expect((await put({ limits: null }, `"${revision}"`)).refusal).toEqual([412, 'precondition_failed']);
    expect((await put({ limits: null }, '*')).as(Holder).limits).toBeNull();
  });

  it('are not made by who says that they are there', async () => {
    const before = f.world.snapshot();
    for (const [ifMatch, asked] of [
      ['*', 'any'],
      ['"7"', 'revision 7'],
    ] as const) {
      const refused = await put({ uid: 1_099 }, ifMatch, '/v1/machines/edge-1/holders/new');
      expect(refused.refusal).toEqual([412, 'precondition_failed']);
      expect(refused.problem.detail).toBe(`there is no holder "new" on "edge-1", and If-Match asks for ${asked}`);
    }
    expect(f.world.snapshot()).toEqual(before);
  });
});
