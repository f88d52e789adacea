import Database from 'better-sqlite3';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { SqliteStore } from '../../src/db/sqlite-store.ts';
import { readTables } from '../support/sqlite-tables.ts';
import { temporaryStore } from '../support/temporary-store.ts';
import { World } from '../support/world.ts';

const machine = (id: string) =>
  ({ kind: 'createMachine', id, labels: { note: 'x'.repeat(60) }, enforcement: 'none', fenceUs: 1 }) as const;

describe('a disk that is full', () => {
  it('fails what cannot be written, loses nothing, and reading goes on', async () => {
    await using temporary = await temporaryStore({ size_bytes_max: 400_000 });
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
    ...{ epoch: 'e', allocatorEpoch: 1, onClose: () => connection.close() },
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
      expect(await store.reader.machines({ limit: 5, cursor: null })).toEqual({ items: [], next: null });
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
