import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Feed, type FeedItem, type Log } from '../../src/feed/feed.ts';
import { concerns, type Event, type Holder, type Interest } from '../../src/leases/model.ts';
import { factsWith } from '../support/token-values.ts';

const holder: Holder = {
  machine: 'edge-1',
  name: 'fish',
  kind: 'fish',
  sticky: { v4: null, v6: null },
  uid: null,
  cgroup: null,
  limits: null,
  createdAt: 0,
  updatedAt: 0,
  revision: 0,
};
const eventAt = (revision: number, machine: string | null): Event => ({
  revision,
  at: revision,
  machine,
  kind: 'holder',
  holder: { ...holder, revision },
});

/** A log that takes its time: every read waits for `pause`, so that commits come in between. */
class SlowLog implements Log {
  readonly events: Event[] = [];
  compactedBelow = 1;
  pause: () => Promise<void> = async () => {};

  async revision(): Promise<number> {
    await this.pause();
    return this.events.length;
  }
  async oldestRevision(): Promise<number> {
    await this.pause();
    return this.compactedBelow;
  }
  async eventsAfter(revision: number, machine: Interest, limit: number): Promise<readonly Event[]> {
    await this.pause();
    return this.events.filter((event) => event.revision > revision && concerns(event, machine)).slice(0, limit);
  }
}

function world(o: { queueMax?: number; catchUpMax?: number } = {}) {
  const log = new SlowLog();
  const feed = new Feed({ log, ...o });
  const commit = (machine: string | null = 'edge-1', count = 1) => {
    for (let i = 0; i < count; i++) {
      const event = eventAt(log.events.length + 1, machine);
      log.events.push(event);
      feed.publish([event]);
    }
  };
  return { log, feed, commit };
}

const macrotask = () => new Promise<void>((resolve) => setImmediate(resolve));

/** Collects what a follower sees until it has reached `revision` or is told to stop. */
async function read(
  feed: Feed,
  o: { machine: string | null; from: number; until: number; between?: () => Promise<void> },
) {
  const stop = new AbortController();
  const seen: number[] = [];
  const items: FeedItem[] = [];
  for await (const item of feed.follow({ interest: o.machine, from: o.from, signal: stop.signal })) {
    items.push(item);
    if (item.type === 'event') seen.push(item.event.revision);
    const reached = item.type === 'event' ? item.event.revision : item.type === 'caught_up' ? item.revision : 0;
    if (reached >= o.until) stop.abort();
    await o.between?.();
  }
  return { seen, items };
}

describe('a follower', () => {
  it('gets what it missed from the log, then what is committed, each once and in order', async () => {
    const { feed, commit } = world({ catchUpMax: 3 });
    commit('edge-1', 10);
    const reading = read(feed, { machine: 'edge-1', from: 4, until: 15 });
    await macrotask();
    commit('edge-1', 5);
    expect((await reading).seen).toEqual([5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
  });

  it('sees what concerns its machine or everybody, and is told how far that is complete', async () => {
    const { feed, commit } = world();
    commit('edge-1');
    commit('edge-2');
    commit(null);
    commit('edge-2');
    const { seen, items } = await read(feed, { machine: 'edge-1', from: 0, until: 4 });
    expect(seen).toEqual([1, 3]);
    expect(items.at(-1)).toEqual({ type: 'caught_up', revision: 4 });
  });

  it('that is too slow for its queue is caught up from the log, and delays nobody', async () => {
    const { feed, commit } = world({ queueMax: 2, catchUpMax: 4 });
    commit();
    const slow = read(feed, { machine: null, from: 0, until: 60, between: macrotask });
    const quick = read(feed, { machine: null, from: 0, until: 60 });
    for (let i = 1; i < 60; i++) {
      commit();
      if (i % 7 === 0) await macrotask();
    }
    const all = Array.from({ length: 60 }, (_, i) => i + 1);
    expect((await slow).seen).toEqual(all);
    expect((await quick).seen).toEqual(all);
    expect(feed.followerCount).toBe(0);
  });

  it('of one machine and of all get the same event, in whatever order they came and went', async () => {
    const { log, feed } = world();
    const readings = ['edge-1', null, 'edge-2', 'edge-1'].map((machine) => read(feed, { machine, from: 0, until: 5 }));
    await macrotask();
    expect(feed.followerCount).toBe(4);
    const token: Event = {
      ...{ revision: 4, at: 4, machine: null, kind: 'token' },
      token: factsWith(4),
    };
    for (const event of [eventAt(1, 'edge-1'), eventAt(2, 'edge-2'), eventAt(3, null), token, eventAt(5, null)]) {
      log.events.push(event);
      feed.publish([event]);
    }
    expect((await Promise.all(readings)).map(({ seen }) => seen)).toEqual([
      [1, 3, 5],
      [1, 2, 3, 4, 5],
      [2, 3, 5],
      [1, 3, 5],
    ]);
    expect(feed.followerCount).toBe(0);
  });

  it('from before the oldest revision is told to take a snapshot, and ends', async () => {
    const { log, feed, commit } = world();
    commit('edge-1', 9);
    log.compactedBelow = 5;
    expect((await read(feed, { machine: 'edge-1', from: 3, until: 9 })).items).toEqual([
      { type: 'compacted', oldest: 5 },
    ]);
    expect((await read(feed, { machine: 'edge-1', from: 4, until: 9 })).seen).toEqual([5, 6, 7, 8, 9]);
  });

  it('is told how far it is although nothing concerns it, and never further than what it was handed', async () => {
    const { feed, commit } = world();
    commit('edge-1');
    const stop = new AbortController();
    const items: string[] = [];
    for await (const item of feed.follow({ interest: 'edge-1', from: 0, signal: stop.signal, bookmarkMs: 5 })) {
      items.push(item.type === 'event' ? `event ${item.event.revision}` : item.type);
      if (item.type !== 'caught_up') continue;
      if (item.revision === 1) commit('edge-2', 6);
      if (item.revision === 7) commit('edge-1');
      if (item.revision === 8) stop.abort();
    }
    expect(items.filter((item) => item !== 'caught_up')).toEqual(['event 1', 'event 8']);
    expect(feed.followerCount).toBe(0);
  });

  it('that is stopped while it takes a bookmark ends there', async () => {
    const { feed, commit } = world();
    commit();
    const stop = new AbortController();
    const seen: string[] = [];
    for await (const item of feed.follow({ interest: null, from: 0, signal: stop.signal, bookmarkMs: 1 })) {
      seen.push(item.type);
      if (seen.length === 3) stop.abort();
    }
    expect(seen).toEqual(['event', 'caught_up', 'caught_up']);
  });

  it('ends when the feed closes', async () => {
    const { feed, commit } = world();
    commit();
    const reading = read(feed, { machine: null, from: 0, until: 99 });
    await macrotask();
    feed.close();
    expect((await reading).seen).toEqual([1]);
  });

  it('sees every event exactly once, however commits and reads interleave', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.scheduler(),
        fc.nat(8),
        fc.integer({ min: 1, max: 4 }),
        fc.integer({ min: 1, max: 5 }),
        async (scheduler, before, queueMax, catchUpMax) => {
          const { log, feed, commit } = world({ queueMax, catchUpMax });
          commit('edge-1', before);
          log.pause = () => scheduler.schedule(Promise.resolve());
          const total = before + 12;
          const reading = read(feed, {
            machine: 'edge-1',
            from: 0,
            until: total,
            between: () => scheduler.schedule(Promise.resolve()),
          });
          for (let i = 0; i < 12; i++) void scheduler.schedule(Promise.resolve()).then(() => commit());
          const done = reading.then(({ seen }) => seen);
          await scheduler.waitFor(done);
          expect(await done).toEqual(Array.from({ length: total }, (_, i) => i + 1));
        },
      ),
      { numRuns: 200 },
    );
  });
});

describe('waitFor', () => {
  it('asks again after each event that matters and answers true once it is so', async () => {
    const { log, feed, commit } = world();
    const waiting = feed.waitFor({
      wakes: (event) => event.machine === 'edge-1',
      isDone: async () => log.events.length >= 3,
      timeoutMs: 5_000,
    });
    for (let i = 0; i < 3; i++) {
      await macrotask();
      commit();
    }
    expect(await waiting).toBe(true);
  });

  it('misses nothing that is committed while it looks', async () => {
    const { log, feed, commit } = world();
    let looks = 0;
    const waiting = feed.waitFor({
      wakes: () => true,
      isDone: async () => {
        const done = log.events.length > 0;
        if (looks++ === 0) commit();
        await macrotask();
        return done;
      },
      timeoutMs: 5_000,
    });
    expect(await waiting).toBe(true);
    expect(looks).toBe(2);
  });

  it('answers false when the time is over or the caller goes away', async () => {
    const { feed } = world();
    const never = { wakes: () => true, isDone: async () => false };
    expect(await feed.waitFor({ ...never, timeoutMs: 5 })).toBe(false);
    const leaving = new AbortController();
    const waiting = feed.waitFor({ ...never, timeoutMs: 5_000, signal: leaving.signal });
    leaving.abort();
    expect(await waiting).toBe(false);
  });
});
