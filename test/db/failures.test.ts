import Database from 'better-sqlite3';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { leaseRow } from '../../src/db/rows.ts';
import { HighWaterMark } from '../../src/db/sqlite/mark.ts';
import { SqliteStore } from '../../src/db/sqlite/store.ts';
import type { Lease } from '../../src/leases/model.ts';
import { readTables } from '../support/stored-tables.ts';
import { temporaryStore } from '../support/temporary-store.ts';
import { tcp, World } from '../support/world.ts';

const machine = (id: string) =>
  ({ kind: 'createMachine', id, labels: { note: 'x'.repeat(60) }, enforcement: 'none', fenceUs: 1 }) as const;

describe('a disk that is full', () => {
  it('fails what cannot be written, loses nothing, and reading goes on', async () => {
    await using temporary = await temporaryStore({ size_bytes_max: 800_000 });
    const world = new World(temporary.store);
    const answered: string[] = [];
    let failure: unknown;
    for (let index = 0; failure === undefined && index < 10_000; index++) {
      try {
        const result = await world.execute(machine(`m-${index}`));
        if (result.ok) answered.push(result.value.id);
      } catch (error) {
        failure = error;
      }
    }
    expect(failure).toMatchObject({ failure: 'full' });
    expect(String(failure)).toContain('the disk is full');
    expect(answered.length).toBeGreaterThan(100);
    expect(world.service.health().writable).toBe(false);
    expect(world.service.health().reason).toContain('the disk is full');
    expect(await temporary.store.reader.revision()).toBe(answered.length);
    expect(world.events.map(({ revision }) => revision)).toEqual(answered.map((_, index) => index + 1));
    // What fits goes on: an update needs no room.
    const before = readTables(temporary.directory).tables.machines.size;
    expect(before).toBe(answered.length);
    await temporary.store.close();
    await temporary.reopen();
    const again = new World(temporary.store, world.clock);
    expect(await again.machine('one-more')).toBe('one-more');
  });
});

/** A store on a connection of our own, to which we can do things. */
async function withConnection(
  use: (store: SqliteStore, connection: Database.Database) => Promise<void>,
): Promise<void> {
  await using temporary = await temporaryStore();
  await temporary.store.close();
  const connection = new Database(join(temporary.directory, 'fishery.db'), { timeout: 10 });
  const store = new SqliteStore({
    connection,
    mark: new HighWaterMark(temporary.directory, undefined),
    newEpoch: () => 'e',
    onClose: () => connection.close(),
  });
  try {
    await use(store, connection);
  } finally {
    await store.close();
  }
}

describe('a database that cannot be written for a while', () => {
  it('is read-only until it no longer is', () =>
    withConnection(async (store, connection) => {
      const world = new World(store);
      connection.pragma('query_only = ON');
      await expect(world.execute(machine('a'))).rejects.toMatchObject({ failure: 'read_only' });
      expect(world.service.health().writable).toBe(false);
      expect(await store.reader.machines({}, { limit: 5, cursor: null })).toEqual({ items: [], next: null });
      connection.pragma('query_only = OFF');
      expect(await world.machine('a')).toBe('a');
      expect(world.service.health().writable).toBe(true);
    }));

  it('is busy while another process writes to it, and free afterwards', () =>
    withConnection(async (store, connection) => {
      const world = new World(store);
      const other = new Database(connection.name);
      other.exec('BEGIN IMMEDIATE');
      await expect(world.execute(machine('a'))).rejects.toMatchObject({ failure: 'busy' });
      other.exec('ROLLBACK');
      other.close();
      expect(await world.machine('a')).toBe('a');
    }));
});

describe('a row that the database refuses', () => {
  it('fails the one command that is at fault, is reported as a bug, and the rest of the batch is carried out', () =>
    withConnection(async (store, connection) => {
      const world = new World(store);
      await world.pool('v4', ['198.51.100.0/32']);
      await world.machine('edge-1', 'none');
      await world.holder('edge-1', 'web', 'proxy', null);
      await world.slices('edge-1', 'v4');
      const web = await world.session('edge-1', 'web');
      const [lease] = (await world.leases(web, tcp(1))) as [Lease];
      // Somebody meddles: a live lease appears where the table says that ports are free.
      connection.exec('DROP TRIGGER leases_disjoint');
      const columns = Object.keys(leaseRow(lease)).filter((column) => column !== 'id' && !/port$/.test(column));
      connection.exec(
        `INSERT INTO leases (id, first_port, last_port, ${columns.join(', ')})
         SELECT 9999, first_port - 1, last_port - 1, ${columns.join(', ')} FROM leases`,
      );
      const before = world.events.length;
      const batch = await Promise.allSettled([
        world.execute(machine('before')),
        world.execute({ kind: 'grantLeases', scope: {}, session: web.id, claims: [tcp(1)] }),
        world.execute(machine('after')),
      ]);
      expect(batch.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
      expect(world.troubles).toMatchObject([{ kind: 'bug', command: 'grantLeases' }]);
      expect(world.events.slice(before).map((event) => event.machine)).toEqual(['before', 'after']);
      expect(await store.reader.eventsAfter(before, null, 9)).toEqual(world.events.slice(before));
    }));
});
