import { describe, expect, it } from 'vitest';
import { Feed } from '../../src/feed/feed.ts';
import type { Event } from '../../src/leases/model.ts';
import { temporaryStore } from '../support/temporary-store.ts';
import { tcp, World } from '../support/world.ts';

/** Everything a follower sees until it has seen `revision`. */
async function follow(feed: Feed, machine: string | null, from: number, revision: number): Promise<readonly Event[]> {
  const stop = new AbortController();
  const seen: Event[] = [];
  for await (const item of feed.follow({ interest: machine, from, signal: stop.signal, bookmarkMs: 5 })) {
    if (item.type === 'event') seen.push(item.event);
    const reached = item.type === 'event' ? item.event.revision : item.type === 'caught_up' ? item.revision : Infinity;
    if (reached >= revision) break;
  }
  return seen;
}

describe('the feed over the real store', () => {
  it('shows every follower the same log while it is being written', async () => {
    await using temporary = await temporaryStore();
    const world = new World(temporary.store);
    const feed = new Feed({ log: temporary.store.reader, queueMax: 8, catchUpMax: 16 });
    world.service.onEvents((events) => feed.publish(events));
    await world.pool('v4', ['198.51.100.0/30']);
    for (const machine of ['edge-1', 'edge-2']) {
      await world.machine(machine);
      await world.holder(machine, 'web');
      await world.ready(machine, 'v4', 2);
    }
    const sessions = [await world.session('edge-1', 'web'), await world.session('edge-2', 'web')];
    const grants = 300;
    const last = world.events.length + grants;
    // Some are there from the start, some come in the middle of it.
    const readings = [follow(feed, null, 0, last), follow(feed, 'edge-1', 0, last), follow(feed, 'edge-2', 5, last)];
    for (let done = 0; done < grants; done += 10) {
      await Promise.all(
        Array.from({ length: 10 }, (_, index) => world.grant(sessions[(done + index) % 2] ?? { id: 0 }, tcp(1))),
      );
      if (done % 100 === 0) readings.push(follow(feed, null, done, last), follow(feed, 'edge-1', done, last));
    }
    const froms = [0, 0, 5, 0, 0, 100, 100, 200, 200];
    const machines = [null, 'edge-1', 'edge-2', null, 'edge-1', null, 'edge-1', null, 'edge-1'];
    for (const [index, reading] of readings.entries()) {
      const machine = machines[index] ?? null;
      const wanted = world.events.filter(
        (event) =>
          event.revision > (froms[index] ?? 0) &&
          (machine === null || event.machine === null || event.machine === machine),
      );
      expect(await reading).toEqual(wanted);
    }
    expect(feed.followerCount).toBe(0);
  });
});
