import type { Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { preferredOf, weightOf } from '../../src/api/accept.ts';
import { concerns } from '../../src/leases/model.ts';
import { Bookmark, Change, Compacted } from '../../src/wire/agent.ts';
import { TokenInfo, TokenPage } from '../../src/wire/tokens.ts';
import { furnished, type Furnished } from '../support/api-world.ts';
import { TestStream } from '../support/event-stream.ts';

let f: Furnished;
let streams: TestStream[] = [];
/** The server's ends of its connections, in the order in which they were made. */
let sockets: Socket[] = [];

async function open(limits: Parameters<typeof furnished>[0]): Promise<void> {
  f = await furnished(limits);
  sockets = [];
  f.world.app.server.on('connection', (socket: Socket) => sockets.push(socket));
  await f.world.app.listen({ host: '127.0.0.1', port: 0 });
}
async function watch(
  options: Partial<Parameters<typeof TestStream.open>[2]> = {},
  machine = 'edge-1',
): Promise<TestStream> {
  const stream = await TestStream.open(f.world.app, machine, { token: f.agent, ...options });
  streams.push(stream);
  return stream;
}
const revision = () => f.world.store.reader.revision();
/** Everything in the log after `from` that edge-1 must hear of. */
const logged = async (from: number): Promise<number[]> =>
  (await f.world.store.reader.eventsAfter(from, 'edge-1', 100_000))
    .filter((event) => concerns(event, 'edge-1'))
    .map((event) => event.revision);
/** `count` changes on edge-1, as labels that differ. */
async function change(count: number, machine = 'edge-1'): Promise<void> {
  for (let i = 0; i < count; i++)
    await f.world.run({ kind: 'updateMachine', id: machine, labels: { n: `${await revision()}` } });
}

beforeEach(() => open({}));
afterEach(async () => {
  for (const stream of streams) stream.close();
  streams = [];
  await f.world[Symbol.asyncDispose]();
});

describe('the stream', () => {
  it('tells what was missed, then what happens, each as the schema has it and with its revision as id', async () => {
    const stream = await watch({ from: 0 });
    await stream.until(() => stream.named('bookmark').length > 0);
    await change(3);
    const last = await revision();
    await stream.until(() => stream.revisions.at(-1) === last);
    expect(stream.revisions).toEqual(await logged(0));
    for (const { data, id } of stream.named('change')) {
      const parsed = Change.parse(JSON.parse(data));
      expect(String(parsed.revision)).toBe(id);
    }
    expect(stream.response.headers).toMatchObject({ 'content-type': 'text/event-stream', 'cache-control': 'no-cache' });
  });

  it('begins now when it is not told from where', async () => {
    const stream = await watch();
    await stream.until(() => stream.named('bookmark').length > 0);
    expect(JSON.parse(stream.events[0]?.data ?? '')).toEqual({ revision: await revision() });
    await change(1);
    await stream.until(() => stream.revisions.length > 0);
    expect(stream.revisions).toEqual([await revision()]);
  });

  it('is taken up after any break without a gap and without a duplicate', async () => {
    const start = await revision();
    const seen: number[] = [];
    const writing = new AbortController();
    const isWriting = () => !writing.signal.aborted;
    const writer = (async () => {
      while (isWriting()) {
        await change(3);
        await change(1, 'edge-2');
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
    })();
    for (let round = 0; round < 25; round++) {
      const stream = await watch(
        seen.length === 0 ? { from: start } : { from: 0, headers: { 'last-event-id': String(seen.at(-1)) } },
      );
      await stream.until(() => stream.revisions.length > (round * 7) % 11);
      stream.close();
      seen.push(...stream.revisions);
    }
    writing.abort();
    await writer;
    const last = await watch({ from: seen.at(-1) ?? 0 });
    await last.until(() => last.named('bookmark').length > 0);
    seen.push(...last.revisions);
    expect(seen).toEqual(await logged(start));
    expect(seen.length).toBeGreaterThan(25);
  });

  it('shows an operator and a viewer the same, and a holder nothing', async () => {
    for (const token of [f.world.operator, f.viewer, f.agent]) {
      const stream = await watch({ token, from: 0 });
      await stream.until(() => stream.named('bookmark').length > 0);
      expect(stream.revisions).toEqual(await logged(0));
    }
    expect((await watch({ token: f.haproxy })).response.statusCode).toBe(403);
  });

  it('is refused as a problem when the client wants something else', async () => {
    const answer = await f.world.call('GET', '/v1/machines/edge-1/watch', { headers: { accept: 'application/json' } });
    expect(answer.refusal).toEqual([406, 'not_acceptable']);
  });

  it('takes no Last-Event-ID that is no revision', async () => {
    const answer = await f.world.call('GET', '/v1/machines/edge-1/watch', { headers: { 'last-event-id': 'x' } });
    expect([answer.status, answer.paths]).toEqual([400, ['header.Last-Event-ID']]);
  });
});

describe('a follower that the log no longer serves', () => {
  it('is told to take a snapshot, and the stream ends', async () => {
    await change(20);
    await f.world.store.compact({ keep: 5, rowsMax: 1_000 });
    const oldest = await f.world.store.reader.oldestRevision();
    const stream = await watch({ from: oldest - 2 });
    expect(await stream.over).toBe('end');
    expect(stream.events.map(({ event, data }) => [event, Compacted.parse(JSON.parse(data))])).toEqual([
      ['compacted', { oldest_revision: oldest }],
    ]);
    const served = await watch({ from: oldest - 1 });
    await served.until(() => served.named('bookmark').length > 0);
    expect(served.revisions).toEqual(await logged(oldest - 1));
    const answer = await f.world.call('GET', `/v1/events?after=${oldest - 2}`);
    expect(answer.refusal).toEqual([410, 'compacted']);
  });

  it('is told the same when it has seen more than there is', async () => {
    const stream = await watch({ from: (await revision()) + 1 });
    expect(await stream.over).toBe('end');
    expect(stream.events.map(({ event }) => event)).toEqual(['compacted']);
  });
});

describe('a bookmark', () => {
  it('comes with every heartbeat and moves on with what concerns others', async () => {
    await f.world[Symbol.asyncDispose]();
    await open({ limits: { heartbeat_ms: 20 } });
    const stream = await watch({ from: await revision() });
    await stream.until(() => stream.named('bookmark').length >= 2);
    await change(4, 'edge-2');
    const now = await revision();
    await stream.until(() =>
      stream.named('bookmark').some(({ data }) => Bookmark.parse(JSON.parse(data)).revision === now),
    );
    expect(stream.revisions).toEqual([]);
    expect(stream.named('bookmark').at(-1)?.id).toBe(String(now));
  });
});

describe('a reader that does not read', () => {
  /** More than the buffers of both kernels' sockets hold, so that the server cannot get rid of it. */
  const changes = 30_000;
  const flood = async () => {
    for (let i = 0; i < changes; i++)
      void f.world.service.execute({
        kind: 'putHolder',
        machine: 'edge-1',
        name: 'squid',
        holderKind: 'proxy',
        uid: 10_000 + i,
      });
    await f.world.run({ kind: 'updateMachine', id: 'edge-1', labels: { flood: 'over' } });
  };

  it('delays nobody, and goes on where it stopped once it reads', async () => {
    const from = await revision();
    const slow = await watch({ from, paused: true });
    const quick = await watch({ from });
    const [slowSide, quickSide] = sockets;
    await flood();
    const all = await logged(from);
    expect(all.length).toBeGreaterThan(changes);
    await quick.until(() => quick.revisions.length === all.length);
    expect(quick.revisions).toEqual(all);
    // What waits in this process for the slow one is one socket buffer, not the log.
    expect(slowSide?.writableLength).toBeLessThan(200_000);
    expect(quickSide?.writableLength).toBe(0);
    slow.response.resume();
    await slow.until(() => slow.revisions.length === all.length);
    expect(slow.revisions).toEqual(all);
  });

  it('is cut off when it stands still, and resumes from its last id', async () => {
    await f.world[Symbol.asyncDispose]();
    await open({ limits: { stall_ms: 100 } });
    const from = await revision();
    const slow = await watch({ from, paused: true });
    await flood();
    await until(async () => (await connections()) === 0);
    slow.response.resume();
    expect(await slow.over).toBe('cut');
    const all = await logged(from);
    expect(slow.revisions.length).toBeLessThan(all.length);
    const again = await watch({ headers: { 'last-event-id': String(slow.revisions.at(-1) ?? from) } });
    await again.until(() => slow.revisions.length + again.revisions.length === all.length);
    expect([...slow.revisions, ...again.revisions]).toEqual(all);
  });
});

describe('the end of a stream', () => {
  it('comes cleanly when the server stops, and the server does not wait for its clients', async () => {
    const open = [await watch(), await watch({ token: f.viewer })];
    for (const stream of open) await stream.until((events) => events.length > 0);
    const began = performance.now();
    await f.world.app.close();
    expect(performance.now() - began).toBeLessThan(2_000);
    for (const stream of open) expect(await stream.over).toBe('end');
    expect(f.world.feed.followerCount).toBe(0);
  });

  it('comes at once when its token is revoked, and for nobody else', async () => {
    const secret = await f.world.token('viewer');
    const { items } = await f.world.must(TokenPage, 'GET', '/v1/tokens?limit=1000');
    const revoked = await watch({ token: secret });
    const other = await watch();
    await f.world.must(TokenInfo, 'DELETE', `/v1/tokens/${items.at(-1)?.id}`);
    expect(await revoked.over).toBe('end');
    await change(1);
    await other.until(() => other.revisions.length > 0);
  });

  it('leaves nothing behind when the client goes away', async () => {
    const before = f.world.feed.followerCount;
    for (const stream of [await watch(), await watch(), await watch()]) stream.close();
    await until(async () => f.world.feed.followerCount === before);
    expect((await f.world.call('GET', '/metrics')).text).toContain('fishery_watch_streams 0');
  });
});

describe('as many streams as there may be', () => {
  it('and one more is refused until one of them ends', async () => {
    await f.world[Symbol.asyncDispose]();
    await open({ limits: { watchers_max: 2 } });
    const first = await watch();
    await watch();
    const third = await watch();
    expect(third.response.statusCode).toBe(503);
    first.close();
    await until(async () => (await watch()).response.statusCode === 200);
  });
});

describe('what a client accepts', () => {
  it.each([
    [undefined, true],
    ['', true],
    ['text/event-stream', true],
    ['text/*', true],
    ['*/*', true],
    ['application/json, text/event-stream;q=0.5', true],
    ['TEXT/EVENT-STREAM', true],
    ['application/json', false],
    ['text/event-stream;q=0, */*', false],
    ['*/*;q=0', false],
    ['text/html, text/*;q=0', false],
  ])('%s', (header, expected) => {
    expect(weightOf(header, 'text/event-stream') > 0).toBe(expected);
  });

  it.each([
    [undefined, 'application/json'],
    ['*/*', 'application/json'],
    ['text/*', 'text/csv'],
    ['text/csv;q=0.5, application/json;q=0.4', 'text/csv'],
    ['text/*;q=0.2, text/csv;q=0, */*;q=0.1', 'text/plain'],
    ['image/png', undefined],
  ])('chooses among several: %s', (header, expected) => {
    expect(preferredOf(header, ['application/json', 'text/csv', 'text/plain'])).toBe(expected);
  });
});

async function until(isDone: () => Promise<boolean>): Promise<void> {
  while (!(await isDone())) await new Promise((resolve) => setTimeout(resolve, 5));
}

const connections = (): Promise<number> =>
  new Promise((resolve, reject) =>
    f.world.app.server.getConnections((error, count) => (error === null ? resolve(count) : reject(error))),
  );
