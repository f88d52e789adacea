import { describe, expect, it } from 'vitest';
import { Feed, type FeedItem } from '../../src/feed/feed.ts';
import { LogTail } from '../../src/feed/log-tail.ts';
import { concerns, type Event, type Interest } from '../../src/leases/model.ts';
import { factsWith } from '../support/token-values.ts';

const eventAt = (revision: number): Event => ({
  ...{ revision, at: revision, machine: null, kind: 'token' },
  token: factsWith(revision),
});
const range = (first: number, last: number) =>
  Array.from({ length: last - first + 1 }, (_, index) => eventAt(first + index));

/** A log that several servers write to; every look takes a moment, in which more may be written. */
class SharedLog {
  events: Event[] = [];
  looks = 0;
  failure: Error | undefined;
  duringLook: () => void = () => {};

  async revision(): Promise<number> {
    if (this.failure) throw this.failure;
    return this.events.at(-1)?.revision ?? 0;
  }
  async oldestRevision(): Promise<number> {
    return this.events[0]?.revision ?? 1;
  }
  async eventsAfter(revision: number, interest: Interest, limit: number): Promise<readonly Event[]> {
    this.looks++;
    const isWanted = (event: Event) => event.revision > revision && concerns(event, interest);
    const found = this.events.filter(isWanted).slice(0, limit);
    await new Promise((resolve) => setImmediate(resolve));
    this.duringLook();
    if (this.failure) throw this.failure;
    return found;
  }
}

async function tailOf(log: SharedLog, pageMax = 512) {
  const seen: number[] = [];
  const errors: unknown[] = [];
  const publish = (events: readonly Event[]) => seen.push(...events.map(({ revision }) => revision));
  const onLoss = () => seen.push(0);
  const tail = await LogTail.start({ log, publish, onLoss, onError: (error) => errors.push(error), pageMax });
  const commitHere = (first: number, last: number) => {
    log.events.push(...range(first, last));
    tail.offer(range(first, last));
  };
  return { tail, seen, errors, commitHere };
}
const settle = () => new Promise((resolve) => setTimeout(resolve, 20));

describe('the tail of a log', () => {
  it('begins at the end, and hands on at once and without a look what follows there', async () => {
    const log = new SharedLog();
    log.events.push(...range(1, 5));
    const { seen, commitHere } = await tailOf(log);
    commitHere(6, 7);
    expect(seen).toEqual([6, 7]);
    commitHere(8, 8);
    expect(seen).toEqual([6, 7, 8]);
    expect(log.looks).toBe(0);
  });

  it('reads what others committed in front of its own, in order and once', async () => {
    const log = new SharedLog();
    const { tail, seen, commitHere } = await tailOf(log);
    log.events.push(...range(1, 3));
    commitHere(4, 5);
    tail.wake();
    expect(seen).toEqual([]);
    await settle();
    expect(seen).toEqual([1, 2, 3, 4, 5]);
    commitHere(6, 6);
    expect(seen).toEqual([1, 2, 3, 4, 5, 6]);
  });

  it('misses nothing that is committed during a look, here or elsewhere', async () => {
    const log = new SharedLog();
    const { tail, seen, commitHere } = await tailOf(log);
    log.events.push(eventAt(1));
    log.duringLook = () => {
      log.duringLook = () => {};
      log.events.push(eventAt(2));
      commitHere(3, 3);
    };
    tail.wake();
    await settle();
    expect(seen).toEqual([1, 2, 3]);
  });

  it('reads a long absence page by page, and nothing when woken for nothing', async () => {
    const log = new SharedLog();
    const { tail, seen } = await tailOf(log, 10);
    log.events.push(...range(1, 35));
    tail.wake();
    await settle();
    expect(seen).toEqual(range(1, 35).map(({ revision }) => revision));
    expect(log.looks).toBe(4);
    tail.wake();
    await settle();
    expect(seen).toHaveLength(35);
  });

  it('tells of a look that failed, and catches up with the next', async () => {
    const log = new SharedLog();
    const { tail, seen, errors, commitHere } = await tailOf(log);
    log.events.push(eventAt(1));
    log.failure = new Error('away');
    tail.wake();
    await settle();
    expect(errors).toEqual([log.failure]);
    log.failure = undefined;
    commitHere(2, 2);
    await settle();
    expect(seen).toEqual([1, 2]);
  });

  it('begins again below when the log lost what it had, and tells followers that they cannot go on', async () => {
    const log = new SharedLog();
    const feed = new Feed({ log });
    const seen: number[] = [];
    const tail = await LogTail.start({
      log,
      publish: (events) => {
        seen.push(...events.map(({ revision }) => revision));
        feed.publish(events);
      },
      onLoss: () => feed.lose(),
    });
    log.events.push(...range(1, 5));
    tail.wake();
    await settle();
    const items: FeedItem['type'][] = [];
    const following = (async () => {
      const { signal } = new AbortController();
      for await (const item of feed.follow({ interest: null, from: 5, signal })) items.push(item.type);
    })();
    await settle();
    // Another server took over that had heard of three only, and is past the five by the time that anybody looks.
    log.events = [...range(1, 3)];
    tail.wake();
    await settle();
    log.events.push(...range(4, 7));
    tail.wake();
    await following;
    await settle();
    expect(items).toEqual(['caught_up', 'compacted']);
    expect(seen).toEqual([1, 2, 3, 4, 5, 4, 5, 6, 7]);
  });

  it('sends followers to the log when it was compacted under the server', async () => {
    const log = new SharedLog();
    log.events.push(...range(1, 2));
    const feed = new Feed({ log });
    const tail = await LogTail.start({ log, publish: (events) => feed.publish(events), onLoss: () => feed.lose() });
    const stop = new AbortController();
    const items: FeedItem[] = [];
    const following = (async () => {
      for await (const item of feed.follow({ interest: null, from: 2, signal: stop.signal })) items.push(item);
    })();
    await settle();
    log.events.push(eventAt(3));
    tail.offer([eventAt(3)]);
    await settle();
    // Cut off for so long that what it has not seen is gone.
    log.events = range(9, 10);
    tail.wake();
    await following;
    expect(items.map((item) => (item.type === 'event' ? item.event.revision : item.type))).toEqual([
      'caught_up',
      3,
      'compacted',
    ]);
  });

  describe('that nobody follows', () => {
    /** Every third event concerns everybody; the others are of one machine each. */
    const mixed = (first: number, last: number): readonly Event[] =>
      range(first, last).map((event) => (event.revision % 3 === 0 ? event : ofMachine(event.revision)));
    const ofMachine = (revision: number): Event => ({
      ...{ revision, at: revision, machine: 'edge-1' },
      ...{ kind: 'deleted', what: 'holder', id: 'web' },
    });

    async function quiet(pageMax: number) {
      const log = new SharedLog();
      const feed = new Feed({ log });
      const heard: number[] = [];
      feed.onEvent(({ revision }) => heard.push(revision));
      const publish = (events: readonly Event[], through: number) => feed.publish(events, through);
      const isFollowed = () => feed.isFollowed;
      const tail = await LogTail.start({ log, publish, isFollowed, onLoss: () => feed.lose(), pageMax });
      return { log, feed, tail, heard };
    }

    it('reads what concerns everybody and nothing else, and is at the end of the log all the same', async () => {
      const { log, feed, tail, heard } = await quiet(4);
      log.events.push(...mixed(1, 20));
      tail.wake();
      await settle();
      expect(heard).toEqual([3, 6, 9, 12, 15, 18]);
      expect(feed.published).toBe(20);
      // What follows there is handed on as it is.
      tail.offer(mixed(21, 22));
      expect(feed.published).toBe(22);
      expect(heard.slice(-2)).toEqual([21, 22]);
    });

    it('reads all that somebody waits for while they wait', async () => {
      const { log, feed, tail, heard } = await quiet(4);
      const told = feed.waitFor({
        wakes: ({ revision }) => revision === 5,
        isDone: async () => heard.includes(5),
        timeoutMs: 5_000,
      });
      log.events.push(...mixed(1, 5));
      tail.wake();
      expect(await told).toBe(true);
      expect(heard).toEqual([1, 2, 3, 4, 5]);
      expect(feed.isFollowed).toBe(false);
    });

    it('keeps nothing from a follower that comes while it reads', async () => {
      const { log, feed, tail } = await quiet(4);
      log.events.push(...mixed(1, 7));
      const seen: number[] = [];
      const stop = new AbortController();
      const follow = async () => {
        for await (const item of feed.follow({ interest: null, from: 0, signal: stop.signal }))
          if (item.type === 'event') seen.push(item.event.revision);
      };
      const following: Promise<void>[] = [];
      log.duringLook = () => {
        log.duringLook = () => {};
        following.push(follow());
        log.events.push(...mixed(8, 9));
      };
      tail.wake();
      await settle();
      log.events.push(...mixed(10, 11));
      tail.wake();
      await settle();
      stop.abort();
      await Promise.all(following);
      expect(seen).toEqual(range(1, 11).map(({ revision }) => revision));
    });
  });
});
