import { describe, expect, it, vi } from 'vitest';
import { connectionLimits, openPool } from '../../src/db/postgres/connections.ts';
import { begin } from '../../src/db/postgres/transaction.ts';
import { SteadyClock } from '../../src/ops/clock.ts';
import { Cable } from '../support/postgres/cable.ts';
import { temporaryDatabase } from '../support/postgres/database.ts';
import { fillTable } from '../support/full-table.ts';
import { Replica } from '../support/replica.ts';
import { World } from '../support/world.ts';

const machine = (id: string) => ({ kind: 'createMachine', id, labels: {}, enforcement: 'none', fenceUs: 1 }) as const;

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
