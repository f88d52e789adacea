import pg from 'pg';
import { describe, expect, it, vi } from 'vitest';
import { connectionLimits, openPool } from '../../src/db/postgres/connections.ts';
import { begin } from '../../src/db/postgres/transaction.ts';
import type { Machine } from '../../src/leases/model.ts';
import { SteadyClock } from '../../src/ops/clock.ts';
import { Cable } from '../support/postgres/cable.ts';
import { temporaryDatabase } from '../support/postgres/database.ts';
import { fillTable } from '../support/full-table.ts';
import { Replica } from '../support/replica.ts';
import { asCreated, World } from '../support/world.ts';

const machineLike = {
  ...{
    labels: {},
    enforcement: 'none' as const,
    fenceUs: 1,
    createdAt: 1,
    updatedAt: 1,
    revision: 2,
    agent: null,
    mark: null,
  },
  ...{ nextHops: [], limitedHolders: 0, ownSlices: 0 },
  ...asCreated,
} satisfies Partial<Machine>;
const machine = (id: string) => ({ kind: 'createMachine', id, labels: {}, enforcement: 'none', fenceUs: 1 }) as const;

/** The driver finds something in a statement that it will not send, and says so a moment later. */
function refuseToSend(name: string) {
  const query = Object.getOwnPropertyDescriptor(pg.Client.prototype, 'query')?.value as (...args: unknown[]) => unknown;
  return vi.spyOn(pg.Client.prototype, 'query').mockImplementation(function (this: pg.Client, ...args: unknown[]) {
    const [config] = args;
    if (typeof config !== 'object' || config === null || !('name' in config) || config.name !== name)
      return Reflect.apply(query, this, args) as never;
    const { promise, reject } = Promise.withResolvers<never>();
    process.nextTick(() => reject(new Error('would not send')));
    return promise as never;
  });
}

describe('a connection that breaks during a commit', () => {
  it('does it again when the commit never arrived', async () => {
    await using database = await temporaryDatabase();
    await using cable = await Cable.lay(database.url);
    const world = new World(await database.open({ url: cable.url, clock: 'server' }));
    cable.fate = 'commit is lost';
    expect(await world.machine('edge-1')).toBe('edge-1');
    expect(cable.fate).toBe('passes');
    expect((await database.read()).events).toEqual(world.events);
    expect(world.events.map(({ revision }) => revision)).toEqual([1]);
    expect(world.troubles).toEqual([]);
  });

  it('finds out that the commit took place when only its answer was lost', async () => {
    await using database = await temporaryDatabase();
    await using cable = await Cable.lay(database.url);
    const world = new World(await database.open({ url: cable.url, clock: 'server' }));
    cable.fate = 'answer is lost';
    expect(await world.machine('edge-1')).toBe('edge-1');
    expect(cable.fate).toBe('passes');
    expect((await database.read()).events).toEqual(world.events);
    expect(world.events.map(({ revision }) => revision)).toEqual([1]);
    expect(world.troubles).toEqual([]);
  });
});

describe('a commit that is sent along with what it commits', () => {
  const born = { createdAt: 1, updatedAt: 1, revision: 1, appliedRevision: 0, seenAt: null };

  it('is not sent where a row cannot be said: nothing is written, and the next batch is as if nothing had been', async () => {
    await using database = await temporaryDatabase();
    const store = await database.open({ clock: 'server' });
    const world = new World(store);
    await world.machine('edge-1');
    const before = await database.read();
    const work = store.transact({
      now: 2,
      *needs() {
        // Nothing is looked at.
      },
      decide: (view) => {
        view.log(null, () => ({ kind: 'deleted', what: 'router', id: 'x' }));
        // Of a kind that JSON has no form for; written after the rows before it would have been sent.
        const seenAt: unknown = 2n;
        view.routers.put({ id: 'border-1', labels: {}, ...born, seenAt: seenAt as number });
        view.machines.put({ ...machineLike, id: 'edge-2' });
      },
    });
    await expect(work).rejects.toThrow('BigInt');
    expect(await database.read()).toEqual(before);
    expect(await world.machine('edge-2')).toBe('edge-2');
  });

  it('is not sent where the driver would not send a statement', async () => {
    await using database = await temporaryDatabase();
    const world = new World(await database.open({ clock: 'server' }));
    await world.machine('edge-1');
    const before = await database.read();
    const refusing = refuseToSend('inserted_events');
    await expect(world.machine('edge-2')).rejects.toThrow('would not send');
    refusing.mockRestore();
    expect(await database.read()).toEqual(before);
    expect(await world.machine('edge-2')).toBe('edge-2');
    expect((await database.read()).events.map(({ revision }) => revision)).toEqual([1, 2]);
  });

  it(
    'is said to have an unknown end when its answer is lost and the database cannot be asked',
    { timeout: 40_000 },
    async () => {
      await using database = await temporaryDatabase();
      await using cable = await Cable.lay(database.url);
      const store = await database.open({ url: cable.url, clock: 'server' });
      const world = new World(store);
      await world.machine('edge-1');
      cable.fate = 'answer is lost';
      const going = world.machine('edge-2');
      const ended = going.catch((error: unknown) => error);
      await vi.waitFor(() => expect(cable.fate).toBe('passes'), { timeout: 10_000, interval: 1 });
      cable.isCut = true;
      expect(await ended).toMatchObject({ failure: 'unknown' });
      cable.isCut = false;
      // It did take place, and what comes next finds it.
      expect((await database.read()).events.map(({ revision }) => revision)).toEqual([1, 2]);
      expect(await world.machine('edge-2')).toBe('machine_exists');
    },
  );
});

describe('a database that is away for a while', () => {
  it('is read again from the beginning when a connection broke under the read', async () => {
    await using database = await temporaryDatabase();
    const world = await fillTable(await database.open({ clock: 'server' }));
    const { reader } = world.store;
    const page = { limit: 2, cursor: null };
    const look = () =>
      Promise.all([
        ...[reader.desired('edge-1'), reader.tiling(20), reader.leases({ machine: 'edge-1' }, page)],
        ...[reader.eventsAfter(3, 'edge-2', 9), reader.revision(), reader.usage(), reader.machines({}, page)],
      ]);
    const before = await look();
    for (let round = 0; round < 3; round++) {
      await database.cutConnections();
      expect(await look()).toEqual(before);
    }
  });

  it('is said to be, and everything goes on by itself when it is back', async () => {
    await using database = await temporaryDatabase();
    await using cable = await Cable.lay(database.url);
    await using replica = await Replica.start(await database.open({ url: cable.url }), new SteadyClock());
    await using other = await Replica.start(await database.open(), new SteadyClock());
    await replica.service.execute(machine('a'));
    cable.isCut = true;
    await database.cutConnections();
    await expect(replica.service.execute(machine('b'))).rejects.toMatchObject({ failure: 'io' });
    expect(replica.service.health()).toMatchObject({ writable: false });
    expect(replica.service.health().reason).toContain('cannot be reached');
    // Others are not affected, and what they do is seen when the way is free again.
    expect(await other.service.execute(machine('c'))).toMatchObject({ ok: true });
    cable.isCut = false;
    expect(await replica.service.execute(machine('d'))).toMatchObject({ ok: true });
    expect(replica.service.health()).toMatchObject({ writable: true });
    await vi.waitFor(() => expect(replica.seen.map((event) => event.machine)).toEqual(['a', 'c', 'd']), 5_000);
    await vi.waitFor(() => expect(other.seen).toEqual(replica.seen), 5_000);
  });
});

describe('a server that stops in the middle of its turn', () => {
  it('loses it after a few seconds, and the others go on', async () => {
    await using database = await temporaryDatabase();
    const world = new World(await database.open({ clock: 'server' }));
    const pool = openPool(database.url, 1);
    const stopped = await pool.connect();
    try {
      await begin(stopped);
      const asked = performance.now();
      expect(await world.machine('edge-1')).toBe('edge-1');
      expect(performance.now() - asked).toBeLessThan(connectionLimits.lock_ms);
      // Its transaction is gone, and with it whatever it would have written.
      await expect(stopped.query('SELECT 1')).rejects.toThrow();
    } finally {
      stopped.release(true);
      await pool.end();
    }
  });
});
