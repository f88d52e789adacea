import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Bookmark, Compacted, EventList, LogEntry } from '../../src/wire/agent.ts';
import { Epoch } from '../../src/wire/epochs.ts';
import { furnished, type Furnished, type WorldOptions } from '../support/api-world.ts';
import { TestStream } from '../support/event-stream.ts';

let f: Furnished;
let streams: TestStream[] = [];
const serve = async (options: WorldOptions = {}) => {
  f = await furnished(options);
  await f.world.app.listen({ host: '127.0.0.1', port: 0 });
};
beforeEach(() => serve());
afterEach(async () => {
  for (const stream of streams) stream.close();
  streams = [];
  await f.world[Symbol.asyncDispose]();
});

async function watch(query = '', options: { token?: string; headers?: Record<string, string> } = {}) {
  const path = `/v1/events/watch${query}`;
  const stream = await TestStream.openPath(f.world.app, path, { token: f.world.operator, ...options });
  streams.push(stream);
  return stream;
}
const caughtUp = (stream: TestStream) => stream.until(() => stream.named('bookmark').length > 0);
const entriesOf = (stream: TestStream) => stream.named('change').map(({ data }) => LogEntry.parse(JSON.parse(data)));
const page = (query = '') => f.world.must(EventList, 'GET', `/v1/events?limit=1000${query}`);
const newest = () => f.world.store.reader.revision();

describe('the stream of the whole log', () => {
  it('tells operators and viewers what the pages have, and then what happens', async () => {
    const open = [await watch('?after=0'), await watch('?after=0', { token: f.viewer })];
    for (const stream of open) await caughtUp(stream);
    await f.world.call('POST', '/v1/machines', { body: { id: 'new' } });
    await f.world.token('viewer');
    const { events, revision } = await page();
    expect(new Set(events.map(({ kind }) => kind))).toContain('token');
    for (const stream of open) {
      await stream.until(() => stream.revisions.at(-1) === revision);
      expect(entriesOf(stream)).toEqual(events);
      expect(stream.revisions).toEqual(events.map((event) => event.revision));
    }
  });

  it('is for nobody else', async () => {
    for (const token of [f.agent, f.haproxy, f.router])
      expect((await watch('', { token })).response.statusCode).toBe(403);
  });

  it('begins now when it is not told from where, and says where now is', async () => {
    const stream = await watch();
    await caughtUp(stream);
    expect(stream.events.map(({ event, data }) => [event, Bookmark.parse(JSON.parse(data))])).toEqual([
      ['bookmark', { revision: await newest() }],
    ]);
  });

  it.each(['&machine=edge-1', '&kind=holder,slice', '&kind=machine&machine=edge-2', '&kind=epoch'])(
    'narrows as a page does: %s',
    async (filter) => {
      const stream = await watch(`?after=0${filter}`);
      await caughtUp(stream);
      await f.world.call('POST', '/v1/machines', { body: { id: 'new' } });
      await f.world.call('PATCH', '/v1/machines/edge-1', {
        body: { labels: { a: 'b' } },
        headers: { 'if-match': '*' },
      });
      await f.world.call('PATCH', '/v1/machines/edge-2', {
        body: { labels: { a: 'b' } },
        headers: { 'if-match': '*' },
      });
      const { events } = await page(filter);
      await stream.until(() => stream.revisions.length >= events.length);
      expect(entriesOf(stream)).toEqual(events);
      expect(events.length < (await page()).events.length).toBe(true);
    },
  );

  it('goes on from Last-Event-ID, whatever the address says', async () => {
    const last = await newest();
    const stream = await watch('?after=0', { headers: { 'last-event-id': String(last - 2) } });
    await caughtUp(stream);
    expect(stream.revisions).toEqual([last - 1, last]);
  });

  it('says that it cannot go on from what is no longer kept, or from what never was, and ends', async () => {
    await f.world.store.compact({ keep: 5, rowsMax: 1_000 });
    const oldest = await f.world.store.reader.oldestRevision();
    for (const [after, oldest_revision] of [
      [oldest - 2, oldest],
      [(await newest()) + 1, await newest()],
    ]) {
      const stream = await watch(`?after=${after}`);
      expect(await stream.over).toBe('end');
      expect(stream.events.map(({ event, data }) => [event, Compacted.parse(JSON.parse(data))])).toEqual([
        ['compacted', { oldest_revision }],
      ]);
    }
    const served = await watch(`?after=${oldest - 1}`);
    await caughtUp(served);
    expect(served.revisions[0]).toBe(oldest);
  });

  it('counts among the streams that a token may have', async () => {
    await f.world[Symbol.asyncDispose]();
    await serve({ limits: { watchers_per_token_max: 1 } });
    const first = await watch();
    expect((await watch()).response.statusCode).toBe(503);
    expect((await watch('', { token: f.viewer })).response.statusCode).toBe(200);
    first.close();
    await expect.poll(async () => (await watch()).response.statusCode).toBe(200);
  });

  it('keeps on telling how far it is', async () => {
    await f.world[Symbol.asyncDispose]();
    await serve({ limits: { heartbeat_ms: 20 } });
    const stream = await watch('?kind=router');
    await f.world.call('POST', '/v1/machines', { body: { id: 'new' } });
    const now = await newest();
    await stream.until(() => stream.named('bookmark').at(-1)?.id === String(now));
    expect(stream.revisions).toEqual([]);
  });
});

describe('an epoch that begins while the log is followed', () => {
  const doubt = () => f.world.call('GET', '/v1/pools', { headers: { 'fishery-seen': 'another/7' } });

  it('is one of the changes, also for who catches up, where nothing that they saw is lost', async () => {
    const last = await newest();
    const live = await watch();
    await caughtUp(live);
    await doubt();
    await f.world.must(Epoch, 'POST', '/v1/server/confirm-epoch', { body: { epoch: 2 } });
    const late = await watch(`?after=${last}`);
    for (const stream of [live, late]) {
      await stream.until(() => stream.revisions.length === 2);
      expect(entriesOf(stream)).toEqual((await page(`&after=${last}`)).events);
      expect(entriesOf(stream)).toMatchObject([
        { kind: 'epoch', revision: 1_000_000_000_001, epoch: { state: 'in_doubt' } },
        { kind: 'epoch', revision: 1_000_000_000_002, epoch: { state: 'confirmed' } },
      ]);
    }
  });

  it('is no change to who saw what was lost, but the end', async () => {
    const last = await newest();
    await doubt();
    const stream = await watch(`?after=${last + 1}`);
    expect(await stream.over).toBe('end');
    expect(stream.events.map(({ event }) => event)).toEqual(['compacted']);
  });
});

describe('a page of some kinds', () => {
  it('goes through all the log, however long none of them comes', async () => {
    await Promise.all(
      Array.from({ length: 11_000 }, (_, i) =>
        f.world.service.execute({
          ...{ kind: 'putHolder', machine: 'edge-1', name: 'squid', holderKind: 'proxy' },
          uid: 10_000 + i,
        }),
      ),
    );
    await f.world.call('POST', '/v1/machines', { body: { id: 'new' } });
    const found: unknown[] = [];
    const lengths: number[] = [];
    for (let after = 0; ;) {
      const { events, next_after, revision } = await f.world.must(
        ...([EventList, 'GET', `/v1/events?kind=machine,pool&limit=2&after=${after}`] as const),
      );
      found.push(...events);
      lengths.push(events.length);
      expect(next_after).toBeGreaterThan(after);
      after = next_after;
      if (after === revision) break;
    }
    const every = await f.world.store.reader.eventsAfter(0, null, 100_000);
    expect(found.map((event) => (event as LogEntry).revision)).toEqual(
      every.filter(({ kind }) => kind === 'machine' || kind === 'pool').map(({ revision }) => revision),
    );
    // Ten thousand entries are looked at for one page at most: the second gives up before the last is found.
    expect(lengths).toEqual([2, 1, 1]);
  });

  it.each(['kind=', 'kind=lease,', 'kind=lease,nothing', 'kind=lease&kind=slice'])('takes no %s', async (query) => {
    for (const path of ['/v1/events', '/v1/events/watch']) {
      const answer = await f.world.call('GET', `${path}?${query}`);
      expect([answer.status, answer.paths]).toEqual([400, ['query.kind']]);
    }
  });
});
