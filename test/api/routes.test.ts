import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Machine } from '../../src/wire/machines.ts';
import { Pool } from '../../src/wire/pools.ts';
import { Router } from '../../src/wire/routers.ts';
import { RouteChange, RouteSnapshot } from '../../src/wire/routes.ts';
import { Slice, SliceList } from '../../src/wire/slices.ts';
import { furnished, type Furnished } from '../support/api-world.ts';
import { TestStream } from '../support/event-stream.ts';

let f: Furnished;
let streams: TestStream[] = [];
beforeEach(async () => {
  f = await furnished({ limits: { heartbeat_ms: 20 } });
  await f.world.app.listen({ host: '127.0.0.1', port: 0 });
});
afterEach(async () => {
  for (const stream of streams) stream.close();
  streams = [];
  await f.world[Symbol.asyncDispose]();
});

const revision = () => f.world.store.reader.revision();
const snapshot = (query = '', token = f.router) => f.world.must(RouteSnapshot, 'GET', `/v1/routes${query}`, { token });
async function watch(query: string, token = f.router): Promise<TestStream> {
  const stream = await TestStream.openPath(f.world.app, `/v1/routes/watch${query}`, { token });
  streams.push(stream);
  return stream;
}
const seen = (stream: TestStream): readonly string[] =>
  stream.named('change').map(({ data, id }) => {
    const change = RouteChange.parse(JSON.parse(data));
    expect(String(change.revision)).toBe(id);
    if (change.kind === 'route') return `${change.route.slice} to ${change.route.machine} ${change.route.mark}`;
    return change.kind === 'machine' ? `${change.machine} ${change.mark}` : `${change.slice} withdrawn`;
  });
/** Waits until the stream has come as far as the log. */
async function caughtUp(stream: TestStream): Promise<void> {
  const end = await revision();
  await stream.until((events) => events.some(({ event, id }) => event === 'bookmark' && Number(id) >= end));
}
const patch = (path: string, body: object) =>
  f.world.call('PATCH', path, { body, headers: { 'if-match': '*' } }).then(({ status }) => expect(status).toBe(200));
const waitingPool = (id: string, prefix: string, labels: object = {}) =>
  f.world.must(Pool, 'POST', '/v1/pools', {
    body: { id, prefixes: [prefix], labels, routers: { ids: ['border-1'], policy: 'all' } },
  });
const assign = async (machine: string, pool: string): Promise<Slice> => {
  const { slices } = await f.world.must(SliceList, 'POST', '/v1/slices', { body: { machine, pool } });
  if (!slices[0]) throw new Error('no slice');
  return slices[0];
};
const acknowledge = (at: number) =>
  f.world.must(Router, 'POST', '/v1/routers/border-1/applied', { token: f.router, body: { revision: at } });

describe('a snapshot of the routes', () => {
  it('has every slice that machines have, and how its machine is reached', async () => {
    await patch('/v1/machines/edge-1', { mark: 257, next_hops: ['192.0.2.11', '2001:db8::11'] });
    const { routes, revision: at } = await snapshot();
    expect(at).toBe(await revision());
    expect(routes).toMatchObject([
      { slice: f.slice, address: '198.51.100.0', machine: 'edge-1', mark: 257, next_hop: '192.0.2.11', generation: 1 },
      { machine: 'edge-2', mark: null, next_hop: null },
    ]);
  });

  it('narrows to a pool, a machine, and labels of pools', async () => {
    await waitingPool('ams1', '203.0.113.0/30', { site: 'ams1' });
    const slice = await assign('edge-2', 'ams1');
    const ids = async (query: string) => (await snapshot(query)).routes.map((route) => route.slice);
    expect(await ids('?pool=ams1')).toEqual([slice.id]);
    expect(await ids('?machine=edge-1')).toEqual([f.slice]);
    expect(await ids('?machine=edge-2&pool=ams1')).toEqual([slice.id]);
    expect(await ids('?select=site%3Dams1')).toEqual([slice.id]);
    expect(await ids('?select=!site')).toHaveLength(2);
    expect(await ids('?pool=nowhere')).toEqual([]);
    expect((await f.world.call('GET', '/v1/routes?select=a%3D%3D%3D')).refusal).toEqual([400, 'validation_failed']);
  });

  it('is JSON, CSV or a file for nft, as the query or the Accept header says', async () => {
    const get = (query: string, accept?: string) =>
      f.world.call('GET', `/v1/routes${query}`, { token: f.router, ...(accept ? { headers: { accept } } : {}) });
    const at = await revision();
    const csv = await get('', 'text/csv');
    expect(csv.headers).toMatchObject({
      ...{ 'content-type': 'text/csv; charset=utf-8; header=present', 'fishery-revision': String(at), vary: 'accept' },
    });
    const lines = csv.text.split('\r\n');
    expect(lines).toHaveLength(4);
    expect(lines[1]).toBe(`198.51.100.0,8192,10239,edge-1,,,fra1,${f.slice},1,${lines[1]?.split(',').at(-1) ?? ''}`);
    const nft = await get('?format=nft', 'application/json');
    expect(nft.headers['content-type']).toBe('text/plain; charset=utf-8');
    expect(nft.text).toMatch(new RegExp(`^# Fishery: .* as of revision ${at} `));
    expect(nft.text).toContain('# 2 of them have no mark, because their machines have none: edge-1, edge-2');
    expect((await get('', 'text/plain, text/csv;q=0.9')).text).toMatch(/^# Fishery/);
    expect((await get('', 'image/png')).refusal).toEqual([406, 'not_acceptable']);
    expect((await get('?format=yaml')).refusal).toEqual([400, 'validation_failed']);
  });

  it('is one state, however much changes while it is read', async () => {
    const busy = (async () => {
      for (let n = 1; n <= 60; n++) await f.world.run({ kind: 'updateMachine', id: 'edge-1', mark: n });
    })();
    for (let round = 0; round < 12; round++) {
      const { routes, revision: at } = await snapshot('?machine=edge-1');
      const events = await f.world.store.reader.eventsAfter(0, null, 10_000);
      const last = events.findLast(
        (event) => event.kind === 'machine' && event.subject.id === 'edge-1' && event.revision <= at,
      );
      expect(routes[0]?.mark).toBe(last?.kind === 'machine' ? last.subject.mark : undefined);
    }
    await busy;
  });
});

describe('following the routes', () => {
  it('tells what came, what was withdrawn and how machines are reached, and nothing else', async () => {
    await waitingPool('ams1', '203.0.113.0/30');
    const stream = await watch(`?from=${await revision()}`);
    const slice = await assign('edge-2', 'ams1');
    await acknowledge(slice.route.revision);
    await patch('/v1/machines/edge-2', { mark: 7 });
    // Labels, holders, sessions and leases are nothing to a router.
    await patch('/v1/machines/edge-2', { labels: { a: 'b' } });
    await f.world.openSession(f.haproxy, 'edge-1', 'haproxy');
    await caughtUp(stream);
    expect(seen(stream)).toEqual([`${slice.id} to edge-2 null`, 'edge-2 7']);

    await f.world.call('POST', `/v1/slices/${slice.id}/drain`, { headers: { 'if-match': '*' } });
    const body = { revision: 0, leases: [], slices: [{ slice: slice.id, generation: 1, state: 'empty' }] };
    await f.world.call('POST', '/v1/machines/edge-2/applied', { token: f.otherAgent, body });
    f.world.clock.advance_s(200);
    await f.world.run({ kind: 'sweep', itemsMax: 100 });
    await acknowledge(await revision());
    expect((await f.world.must(Slice, 'GET', `/v1/slices/${slice.id}`)).state).toBe('free');
    await caughtUp(stream);
    // Once: that it is free at last changes nothing for whoever let go of it.
    expect(seen(stream).filter((line) => line.startsWith('slice'))).toEqual([
      `${slice.id} to edge-2 null`,
      `${slice.id} withdrawn`,
    ]);
  });

  it('goes on from where it was, by the query or the last id', async () => {
    const whole = await watch('?from=0');
    await caughtUp(whole);
    const [, second] = whole.named('change');
    const rest = await watch(`?from=${second?.id}`);
    await caughtUp(rest);
    expect(rest.revisions).toEqual(whole.revisions.slice(2));
    expect(rest.revisions.length).toBeGreaterThan(0);
  });

  it('narrows to a machine, a pool, and labels of pools; when these change, it asks for a new snapshot', async () => {
    await waitingPool('ams1', '203.0.113.0/30', { site: 'ams1' });
    const from = await revision();
    const [here, there, chosen] = [
      await watch(`?from=${from}&machine=edge-1`),
      await watch(`?from=${from}&pool=fra1`),
      await watch(`?from=${from}&select=site%3Dams1`),
    ];
    const first = await assign('edge-1', 'ams1');
    const second = await assign('edge-2', 'fra1');
    for (const stream of [here, there, chosen]) await caughtUp(stream);
    expect([here, there, chosen].map(seen)).toEqual([
      [`${first.id} to edge-1 null`],
      [`${second.id} to edge-2 null`],
      [`${first.id} to edge-1 null`],
    ]);
    await patch('/v1/pools/fra1', { labels: { site: 'ams1' } });
    expect(await chosen.over).toBe('end');
    expect(chosen.named('compacted')).toHaveLength(1);
    await caughtUp(here);
    expect(here.named('compacted')).toEqual([]);
  });

  it('asks for a new snapshot when the log does not reach back so far, or never came so far', async () => {
    await f.world.store.compact({ keep: 2, rowsMax: 1_000 });
    for (const from of [1, 100_000]) {
      const stream = await watch(`?from=${from}`);
      expect(await stream.over).toBe('end');
      expect(stream.named('compacted')).toHaveLength(1);
    }
  });
});

describe('a router', () => {
  it('is waited for, and who waits for it is told, with for how long', async () => {
    await waitingPool('ams1', '203.0.113.0/30');
    await f.world.must(Machine, 'POST', '/v1/machines', { body: { id: 'bare', enforcement: 'none' } });
    const slice = await assign('bare', 'ams1');
    expect(slice).toMatchObject({ state: 'assigning', route: { state: 'adding' } });
    f.world.clock.advance_s(90);
    const { waiting_for } = await f.world.must(Slice, 'GET', `/v1/slices/${slice.id}`);
    expect(waiting_for?.routers).toEqual(['border-1']);
    expect(Math.floor(waiting_for?.age_s ?? 0)).toBe(90);
    const { text: metrics } = await f.world.call('GET', '/metrics');
    expect(metrics).toContain('fishery_slices_waiting_for_routers{pool="ams1",route="adding"} 1');
    expect(
      Number(/^fishery_router_behind_seconds\{router="border-1"\} (\S+)$/m.exec(metrics)?.[1]),
    ).toBeGreaterThanOrEqual(90);
    expect(await acknowledge(slice.route.revision)).toMatchObject({ applied_revision: slice.route.revision });
    const routed = await f.world.must(Slice, 'GET', `/v1/slices/${slice.id}`);
    expect([routed.state, routed.route.state, routed.waiting_for]).toEqual(['assigned', 'routed', undefined]);
  });

  it('speaks for itself only, up to the end of the log, and as long as it exists', async () => {
    await f.world.must(Router, 'PUT', '/v1/routers/border-2', { body: {} });
    const say = (id: string, at: number) =>
      f.world.call('POST', `/v1/routers/${id}/applied`, { token: f.router, body: { revision: at } });
    expect((await say('border-2', 1)).refusal).toEqual([403, 'not_yours']);
    expect((await say('border-1', 100_000)).refusal).toEqual([409, 'revision_unknown']);
    const read = (path: string) => f.world.call('GET', path, { token: f.router });
    expect((await read('/v1/routers/border-2')).refusal).toEqual([403, 'not_yours']);
    expect((await read('/v1/routers/border-1')).status).toBe(200);
    expect((await f.world.call('DELETE', '/v1/routers/border-1')).status).toBe(204);
    // Its tokens go with it.
    expect((await say('border-1', 1)).refusal).toEqual([401, 'unauthenticated']);
    for (const path of ['/v1/routes', '/v1/routes/watch'])
      expect((await read(path)).refusal).toEqual([401, 'unauthenticated']);
  });

  it.each([
    [{ ids: ['a'], select: 'b=c', policy: 'all' }, 'body.routers'],
    [{ select: 'b=', policy: 'most' }, 'body.routers.policy'],
    [{ select: '=', policy: 'all' }, 'body.routers.select'],
    [{ ids: ['a'], policy: { at_least: 2 } }, 'body.routers'],
    [{ policy: { at_least: 0 } }, 'body.routers.policy.at_least'],
  ])('is not asked for by %j', async (routers, path) => {
    const before = f.world.snapshot();
    const body = { id: 'bad', prefixes: ['203.0.113.0/30'], routers };
    const answer = await f.world.call('POST', '/v1/pools', { body });
    expect([...answer.refusal, ...answer.paths]).toEqual([400, 'validation_failed', path]);
    expect(f.world.snapshot()).toEqual(before);
  });
});
