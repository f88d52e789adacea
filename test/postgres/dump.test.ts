import { describe, expect, it } from 'vitest';
import { check } from '../../src/db/check/check.ts';
import { dump } from '../../src/db/dump/dump.ts';
import { restore } from '../../src/db/dump/restore.ts';
import type { StoreLocation } from '../../src/db/open.ts';
import { openSnapshot } from '../../src/db/snapshot.ts';
import { SteadyClock } from '../../src/ops/clock.ts';
import { fillTable } from '../support/full-table.ts';
import { furnishForLoad, killUnderLoad } from '../support/killed.ts';
import { temporaryDatabase } from '../support/postgres/database.ts';
import { readTables } from '../support/stored-tables.ts';
import { temporaryStore } from '../support/temporary-store.ts';
import { World } from '../support/world.ts';

async function dumpOf(location: StoreLocation): Promise<readonly string[]> {
  await using snapshot = await openSnapshot(location);
  const lines: string[] = [];
  for await (const line of dump(snapshot)) lines.push(line);
  return lines;
}
async function* linesOf(lines: readonly string[]): AsyncGenerator<string> {
  yield* lines;
}
/** All but the header, which says who the table is. */
const rowsOf = (lines: readonly string[]) => lines.slice(1);

describe('a dump', () => {
  it('goes from SQLite to PostgreSQL and back, row for row', async () => {
    await using source = await temporaryStore();
    const before = await fillTable(source.store);
    const lines = await dumpOf({ url: undefined, directory: source.directory });
    await using database = await temporaryDatabase('');
    const there = { url: database.url, directory: '' };
    await restore(there, linesOf(lines), { newEpoch: () => 'epoch-2' });
    expect(await database.read()).toEqual(readTables(source.directory));
    const restored = await database.open({ clock: 'server' });
    expect(new Set(await restored.reader.usage())).toEqual(new Set(await source.store.reader.usage()));
    const again = await dumpOf(there);
    expect(rowsOf(again)).toEqual(rowsOf(lines));

    // The table there goes on once somebody says that it may, with everything that was promised before.
    const world = new World(await database.open({ clock: 'server', newEpoch: () => 'epoch-9' }), before.clock);
    expect(await world.machine('edge-9')).toBe('read_only_epoch');
    expect(await world.store.reader.epoch()).toMatchObject({
      ...{ number: 2, cause: 'other_database', id: expect.stringMatching(/^epoch-9\.\d+/) as string },
    });
    expect(await world.confirm(2)).toBe('by token-9');
    const session = (await world.store.reader.sessions({ state: 'live' }, { limit: 1, cursor: null })).items[0];
    if (!session) throw new Error('no session');
    expect(await world.keep(session)).toMatch(/^until/);
    // By then the guard of every machine that nobody heard has shut.
    await world.pass(4_000);
    expect(await world.machine('edge-9')).toBe('edge-9');
    expect(world.events[0]?.revision).toBe(1_000_000_000_001);

    await using back = await temporaryStore();
    await back.store.close();
    const home = { url: undefined, directory: back.directory };
    await restore(home, linesOf(await dumpOf(there)), { newEpoch: () => 'epoch-3' });
    expect(readTables(back.directory)).toEqual(await database.read());
  });

  it('and a check are of one state while servers write', async () => {
    await using database = await temporaryDatabase();
    const world = new World(await database.open({ clock: 'server' }));
    world.clock.us = new SteadyClock().nowUs();
    const session = await furnishForLoad(world);
    const there = { url: database.url, directory: '' };
    const loaded = killUnderLoad(database.url, session, 1_500);
    const load = { isOver: false };
    void loaded.finally(() => (load.isOver = true));
    const revisions: number[] = [];
    while (!load.isOver) {
      await using snapshot = await openSnapshot(there);
      const { flaws, revision } = await check(snapshot);
      expect(flaws).toEqual([]);
      revisions.push(revision);
    }
    await loaded;
    expect(revisions.length).toBeGreaterThan(1);
    expect(revisions.at(-1)).toBeGreaterThan(revisions[0] ?? 0);

    await using copy = await temporaryStore();
    await copy.store.close();
    const lines = await dumpOf(there);
    expect(
      (await restore({ url: undefined, directory: copy.directory }, linesOf(lines), { newEpoch: () => 'e' })).revision,
    ).toBe((await database.read()).events.length);
  });
});

describe('a restore into PostgreSQL', () => {
  it('is all or nothing, and only where nothing is', async () => {
    await using source = await temporaryStore();
    await fillTable(source.store);
    const lines = await dumpOf({ url: undefined, directory: source.directory });
    await using database = await temporaryDatabase('');
    const there = { url: database.url, directory: '' };
    const spoilt = lines.map((line) => line.replace(/"members":\d+/, '"members":9'));
    await expect(restore(there, linesOf(spoilt), { newEpoch: () => 'x' })).rejects.toThrow(/127\.0\.0\.1|not whole/);
    expect((await database.read()).events).toEqual([]);
    await restore(there, linesOf(lines), { newEpoch: () => 'y' });
    await expect(restore(there, linesOf(lines), { newEpoch: () => 'z' })).rejects.toThrow(
      /is not empty: restore into a new one/,
    );
  });
});
