import { describe, expect, it } from 'vitest';
import { check } from '../../src/db/check/check.ts';
import { openStore } from '../../src/db/open.ts';
import { openSnapshot } from '../../src/db/snapshot.ts';
import { formatToken } from '../../src/leases/model.ts';
import { temporaryStore } from '../support/temporary-store.ts';
import { address, FakeClock, must, tcp, World } from '../support/world.ts';

/** A broker's table with a slice of the server's, and a lease in it. */
async function granted(world: World, generation: number) {
  await world.pool('v4', ['198.51.100.0/31']);
  await world.machine('edge-1');
  await world.holder('edge-1', 'web');
  const slice = { id: 70, generation, pool: 'v4', machine: 'edge-1', address: address('198.51.100.0') };
  const ports = { first: 2_048, last: 4_095 };
  for (const state of ['assigning', 'assigned'] as const)
    must(await world.execute({ kind: 'adoptSlice', ...slice, ports, state }));
  const [lease] = await world.leases(await world.session('edge-1', 'web', 3_600), tcp(1));
  if (!lease) throw new Error('no lease');
  return lease;
}

describe('a table that begins by the clock', () => {
  it('gives out no identifier or token of one that was lost, and is whole by itself', async () => {
    const clock = new FakeClock();
    const open = async () => {
      const temporary = await temporaryStore();
      await temporary.store.close();
      const directory = `${temporary.directory}/table`;
      const location = { url: undefined, directory, beginsByClock: true };
      temporary.store = await openStore(location, { newEpoch: () => `e${clock.us}`, nowUs: clock.nowUs });
      return { temporary, location };
    };
    const first = await open();
    await using _first = first.temporary;
    const before = await granted(new World(first.temporary.store, clock), 3);
    clock.passSeconds(2);
    const second = await open();
    await using _second = second.temporary;
    const after = await granted(new World(second.temporary.store, clock), 3);
    expect(before.id).toBeGreaterThan(1e15);
    expect(after.id).toBeGreaterThan(before.id);
    expect(formatToken(after)).not.toBe(formatToken(before));
    expect(formatToken(after)).toMatch(/^\d{1,10}\.\d{1,10}\.\d{1,16}$/);
    for (const { location } of [first, second]) {
      await using snapshot = await openSnapshot(location);
      expect(await check(snapshot)).toMatchObject({ flaws: [], counts: { slices: 1, leases: 1 } });
    }
  });

  it('goes on where it stopped when it is opened again', async () => {
    const clock = new FakeClock();
    await using temporary = await temporaryStore();
    await temporary.store.close();
    const location = { url: undefined, directory: `${temporary.directory}/table`, beginsByClock: true };
    const origin = { newEpoch: () => `e${clock.us}`, nowUs: clock.nowUs };
    temporary.store = await openStore(location, origin);
    const epoch = await temporary.store.reader.epoch();
    await temporary.store.close();
    clock.passSeconds(60);
    temporary.store = await openStore(location, origin);
    expect(await temporary.store.reader.epoch()).toEqual(epoch);
    const lease = await granted(new World(temporary.store, clock), 1);
    const end = await temporary.store.reader.revision();
    await temporary.store.close();
    temporary.store = await openStore(location, origin);
    expect(await temporary.store.reader.revision()).toBe(end);
    expect(await new World(temporary.store, clock).release(lease)).toContain('ending');
  });
});
