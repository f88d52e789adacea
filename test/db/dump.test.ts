import { describe, expect, it } from 'vitest';
import { dump } from '../../src/db/dump/dump.ts';
import { restore } from '../../src/db/dump/restore.ts';
import { openSnapshot } from '../../src/db/snapshot.ts';
import { fillTable } from '../support/full-table.ts';
import { readTables } from '../support/stored-tables.ts';
import { temporaryStore, type TemporaryStore } from '../support/temporary-store.ts';
import { second, tcp, World } from '../support/world.ts';

const at = ({ directory }: TemporaryStore) => ({ url: undefined, directory });
async function dumpOf(temporary: TemporaryStore): Promise<readonly string[]> {
  await using snapshot = await openSnapshot(at(temporary));
  const lines: string[] = [];
  for await (const line of dump(snapshot)) lines.push(line);
  return lines;
}
async function* linesOf(lines: readonly string[]): AsyncGenerator<string> {
  yield* lines;
}
const into = (temporary: TemporaryStore, lines: readonly string[]) =>
  restore(at(temporary), linesOf(lines), { newEpoch: () => 'epoch-restored' });

/** A directory that a store may be restored into: made, and left. */
async function emptyDirectory(): Promise<TemporaryStore> {
  const temporary = await temporaryStore();
  await temporary.store.close();
  return temporary;
}

describe('a dump', () => {
  it('restores to the same rows and the same log, in a table that knows it may lack something', async () => {
    await using source = await temporaryStore();
    const before = await fillTable(source.store);
    const lines = await dumpOf(source);
    await using target = await emptyDirectory();
    const stored = readTables(source.directory);
    const { events } = stored;
    expect(await into(target, lines)).toEqual({ rows: lines.length - 2, revision: events.length });
    expect(readTables(target.directory)).toEqual(stored);

    // It may lack what was answered after it was made: nothing is granted before somebody says that it does not.
    const world = new World(await target.reopen(), before.clock);
    expect(await world.machine('edge-8')).toBe('read_only_epoch');
    expect(world.events.map((event) => event.kind === 'epoch' && event.epoch)).toMatchObject([
      { number: 2, cause: 'other_mark', after: events.length, from: 1_000_000_000_001, confirmedAt: null },
    ]);
    expect(await world.execute({ kind: 'confirmEpoch', number: 2, by: 'a test' })).toMatchObject({ ok: true });
    // Nor before the guard of each machine that nobody hears has shut.
    for (const { fenceUs, enforcement } of stored.tables.machines.values())
      if (enforcement === 'agent') before.clock.passSeconds(fenceUs / second + 1);
    // What both may grant from here on is not the same, by whatever name.
    const [theirs] = await before.leases(await before.session('edge-1', 'web', 60), tcp(1));
    const [ours] = await world.leases(await world.session('edge-1', 'web', 60), tcp(1));
    expect(theirs?.id).toBeLessThan(1_000);
    expect(ours?.id).toBeGreaterThan(1_000_000_000_000);
    expect([theirs?.epoch, ours?.epoch]).toEqual([1, 2]);
    expect(world.troubles).toEqual([]);
  });

  it('goes on elsewhere as the very same when nothing was changed after it', async () => {
    await using source = await temporaryStore();
    const { clock } = await fillTable(source.store);
    const lines = await dumpOf(source);
    await using target = await emptyDirectory();
    await restore(at(target), linesOf(lines), { newEpoch: () => 'unused', moved: true });
    const world = new World(await target.reopen(), clock);
    expect((await world.store.reader.epoch()).id).toBe('epoch-1');
    const revision = await world.store.reader.revision();
    expect(await world.machine('edge-9')).toBe('edge-9');
    expect(world.events.map((event) => event.revision)).toEqual([revision + 1]);
  });

  it('is of one state, whatever is written while it is made', async () => {
    await using source = await temporaryStore();
    const world = await fillTable(source.store);
    const revision = await source.store.reader.revision();
    await using snapshot = await openSnapshot(at(source));
    const lines: string[] = [];
    for await (const line of dump(snapshot)) {
      lines.push(line);
      if (lines.length % 20 === 0) await world.machine(`m-${lines.length}`);
    }
    expect(await source.store.reader.revision()).toBeGreaterThan(revision);
    await using target = await emptyDirectory();
    expect(await into(target, lines)).toMatchObject({ revision });
  });

  it('has one line for each row, and an end that counts them', async () => {
    await using source = await temporaryStore();
    await fillTable(source.store);
    const lines = (await dumpOf(source)).map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(lines[0]).toMatchObject({ fishery_dump: 1, revision: expect.any(Number) as number });
    const pools = lines.filter(({ table }) => table === 'pools').map(({ row }) => row);
    expect(pools).toMatchObject([
      { id: 'routed', routers: expect.any(String) as string },
      { id: 'v4', slice_ports: 2_048 },
      { id: 'v6', cursors: expect.any(String) as string },
    ]);
    expect(lines.at(-1)).toMatchObject({ end: true, rows: { pools: 3, routers: 2, machines: 3, access_tokens: 2 } });
  });
});

describe('a restore', () => {
  it.each<[string, (lines: string[]) => string[], RegExp]>([
    ['nothing', () => [], /no header/],
    ['something else', () => ['<html>'], /line 1 of the dump: it is not an object in JSON/],
    [
      'a dump of another format',
      (lines) => [lines[0]?.replace('"fishery_dump":1', '"fishery_dump":9') ?? ''],
      /format is 9/,
    ],
    ['a dump of other tables', (lines) => [lines[0]?.replace(/0001_\w+/, '0009_later') ?? ''], /as of 0009_later/],
    ['a dump that was cut off', (lines) => lines.slice(0, -1), /cut off/],
    ['a dump with a row less', (lines) => lines.toSpliced(lines.length - 2, 1), /rows of \w+, its end says/],
    ['a dump with a row twice', (lines) => lines.toSpliced(3, 0, lines[3] ?? ''), /refused a row/],
    [
      'a dump cut off in a line',
      (lines) => [...lines.slice(0, 9), lines[9]?.slice(0, 20) ?? ''],
      /line 10 of the dump/,
    ],
    [
      'a table that there is not',
      (lines) => lines.toSpliced(3, 0, '{"table":"x","row":{}}'),
      /line 4 of the dump: it is neither/,
    ],
    [
      'a column that there is not',
      (lines) => lines.with(1, '{"table":"pools","row":{"x":1}}'),
      /pools has no column x/,
    ],
    [
      'a value that does not fit',
      (lines) => lines.map((line) => line.replace('"slice_ports":2048', '"slice_ports":"2048"')),
      /slice_ports: a whole number is expected/,
    ],
    [
      'a table that is not whole',
      (lines) => lines.map((line) => line.replace(/"members":\d+/, '"members":9')),
      /not whole, \d+ flaws: .*counts 9 members/,
    ],
    [
      'another revision',
      (lines) => lines.with(0, lines[0]?.replace(/"revision":\d+/, '"revision":7') ?? ''),
      /header says 7/,
    ],
  ])('refuses %s, and leaves the database empty', async (_, spoil, says) => {
    await using source = await temporaryStore();
    await fillTable(source.store);
    const lines = [...(await dumpOf(source))];
    await using target = await emptyDirectory();
    await expect(into(target, spoil(lines))).rejects.toThrow(says);
    expect(readTables(target.directory).events).toEqual([]);
    expect(readTables(target.directory).tables.pools.size).toBe(0);
    // Nothing of the attempt is in the way of the next.
    expect((await into(target, lines)).rows).toBe(lines.length - 2);
  });

  it('refuses a database that has something in it, and one that a server has open', async () => {
    await using source = await temporaryStore();
    await fillTable(source.store);
    const lines = await dumpOf(source);
    await expect(into(source, lines)).rejects.toThrow(/another Fishery server is running/);
    await source.store.close();
    await expect(into(source, lines)).rejects.toThrow(/is not empty/);
  });
});
