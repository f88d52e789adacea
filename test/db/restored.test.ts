import { copyFileSync, cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import Database from 'better-sqlite3';
import { check } from '../../src/db/check/check.ts';
import { openSnapshot } from '../../src/db/snapshot.ts';
import { lossShownBy, readMark, type Mark } from '../../src/db/sqlite/mark.ts';
import { openSqliteStore } from '../../src/db/sqlite/open.ts';
import { World } from '../support/world.ts';

let root: string;
let live: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'fishery-restored-'));
  live = join(root, 'live');
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

let ids = 0;
const open = async (directory = live): Promise<World> =>
  new World(await openSqliteStore({ directory, newEpoch: () => `epoch-${++ids}`, nowUs: () => 0 }));
const close = (world: World) => world.store.close();

/** What the server is in after its first command: whether it still decides anything. */
async function stateOf(world: World): Promise<string> {
  const answer = await world.machine(`m-${++ids}`);
  const { number, cause } = await world.store.reader.epoch();
  return answer === 'read_only_epoch' ? `in doubt: epoch ${number}, ${cause}` : `goes on in epoch ${number}`;
}

/** A database with so many machines, and its server stopped; where it lies. */
async function filled(machines: number, directory = live): Promise<string> {
  const world = await open(directory);
  for (let index = 0; index < machines; index++) await world.machine(`edge-${++ids}`);
  await close(world);
  return directory;
}

/** A copy of the database alone, as a backup takes it while the server runs or not. */
function backUp(to: string): string {
  const connection = new Database(join(live, 'fishery.db'));
  try {
    connection.exec(`VACUUM INTO '${join(root, to)}'`);
  } finally {
    connection.close();
  }
  return join(root, to);
}

function putBack(backup: string): void {
  for (const suffix of ['-wal', '-shm']) rmSync(join(live, `fishery.db${suffix}`), { force: true });
  copyFileSync(backup, join(live, 'fishery.db'));
}

describe('a database that was restored', () => {
  it('beside its mark is older than it, and grants nothing until somebody confirms', async () => {
    await filled(5);
    const backup = backUp('backup.db');
    await filled(3);
    putBack(backup);
    const world = await open();
    expect(await stateOf(world)).toBe('in doubt: epoch 2, older_than_mark');
    expect((await world.store.reader.epoch()).detail).toBe('the database ends at revision 5, and 8 had been given out');
    expect(await world.confirm(2)).toBe('by token-9');
    expect(await stateOf(world)).toBe('goes on in epoch 2');
    await close(world);
    // It is forgotten neither way.
    const again = await open();
    expect(await stateOf(again)).toBe('goes on in epoch 2');
    await close(again);
    await using snapshot = await openSnapshot({ url: undefined, directory: live });
    expect((await check(snapshot)).flaws).toEqual([]);
  });

  it('goes on by itself when every machine told that it has nothing which is lost', async () => {
    const first = await open();
    for (const id of ['one', 'two']) await first.machine(id);
    await close(first);
    const backup = backUp('backup.db');
    await filled(1);
    putBack(backup);
    const world = await open();
    const tell = (machine: string) =>
      world.execute({ kind: 'agentKeepalive', machine, bootId: 'b', version: '1', appliedRevision: 2 });
    const stands = async () => (await world.store.reader.epoch()).confirmedBy;
    await tell('one');
    world.clock.passSeconds(3_602);
    await tell('one');
    expect(await stands()).toBeNull();
    await tell('two');
    expect(await stands()).toBe('machines');
    expect(await stateOf(world)).toBe('goes on in epoch 2');
    await close(world);
    await using snapshot = await openSnapshot({ url: undefined, directory: live });
    expect((await check(snapshot)).flaws).toEqual([]);
  });

  it('stays in doubt over any number of starts', async () => {
    await filled(5);
    const backup = backUp('backup.db');
    await filled(1);
    putBack(backup);
    for (let start = 0; start < 3; start++) {
      const world = await open();
      expect(await stateOf(world)).toBe('in doubt: epoch 2, older_than_mark');
      await close(world);
    }
  });

  it('is found out by the next start when the first ended before it had decided anything', async () => {
    await filled(5);
    const backup = backUp('backup.db');
    await filled(1);
    putBack(backup);
    await close(await open());
    const world = await open();
    expect(await stateOf(world)).toMatch(/^in doubt/);
    await close(world);
  });

  it('is found out after one change that is missing, and after none goes on', async () => {
    await filled(5);
    const backup = backUp('backup.db');
    putBack(backup);
    const same = await open();
    expect(await stateOf(same)).toBe('goes on in epoch 1');
    await close(same);
    putBack(backup);
    const older = await open();
    expect(await stateOf(older)).toMatch(/^in doubt/);
    await close(older);
  });

  it('from before a former doubt does not use its names again', async () => {
    await filled(2);
    const backup = backUp('backup.db');
    await filled(1);
    for (const number of [2, 3]) {
      putBack(backup);
      const world = await open();
      expect(await stateOf(world)).toBe(
        `in doubt: epoch ${number}, ${number === 2 ? 'older_than_mark' : 'other_mark'}`,
      );
      expect((await world.store.reader.epoch()).from).toBe((number - 1) * 1_000_000_000_000 + 1);
      await world.confirm(number);
      await close(world);
    }
  });

  it('without a mark may be any copy: it was put on another host', async () => {
    await filled(5);
    const elsewhere = join(root, 'elsewhere');
    cpSync(live, elsewhere, { recursive: true });
    rmSync(join(elsewhere, 'fishery.mark'));
    const world = await open(elsewhere);
    expect(await stateOf(world)).toBe('in doubt: epoch 2, other_mark');
    expect((await world.store.reader.epoch()).detail).toMatch(/no fishery\.mark beside the database/);
    await close(world);
  });

  it('beside the mark of another one, or a damaged one, is not believed', async () => {
    await filled(5);
    const other = await filled(9, join(root, 'other'));
    const own = join(live, 'fishery.mark');
    for (const [put, says] of [
      [() => copyFileSync(join(other, 'fishery.mark'), own), /^fishery\.mark is of epoch epoch-\d+, which/],
      [() => writeFileSync(own, readFileSync(own).subarray(0, 20)), /^fishery\.mark beside the database is damaged$/],
    ] as const) {
      put();
      const world = await open();
      expect(await stateOf(world)).toMatch(/^in doubt/);
      const { number, detail } = await world.store.reader.epoch();
      expect(detail).toMatch(says);
      await world.confirm(number);
      await close(world);
    }
  });

  it('that was taken away and made anew has nothing of what was granted', async () => {
    await filled(5);
    for (const suffix of ['', '-wal', '-shm']) rmSync(join(live, `fishery.db${suffix}`), { force: true });
    const world = await open();
    expect(await stateOf(world)).toMatch(/^in doubt/);
    // Whoever is to confirm it must get in.
    const token = { name: 'operator', role: 'operator', machine: null, holder: null, hash: 'h' } as const;
    expect(await world.execute({ kind: 'createToken', ...token })).toMatchObject({ ok: true });
    await close(world);
  });

  it('knows how far it had come also when its server was killed', async () => {
    const world = await open();
    for (let index = 0; index < 5; index++) await world.machine(`edge-${++ids}`);
    const backup = backUp('backup.db');
    await world.machine(`edge-${++ids}`);
    // What the process had written is what is left of it.
    const mark = readMark(live);
    expect(mark).toMatchObject({ reached: 6, reserved: 100_000 });
    await close(world);
    putBack(backup);
    const again = await open();
    expect(await stateOf(again)).toMatch(/^in doubt/);
    await close(again);
  });
});

describe('the mark', () => {
  const standing = { epoch: 'e', former: new Set(['d']), revision: 500 };
  const mark = (change: Partial<Mark> = {}): Mark => ({ epoch: 'e', reserved: 100_000, reached: 400, ...change });

  it.each<[string, Mark | 'damaged' | undefined, number | undefined]>([
    ['behind the database: a commit that was not noted any more', mark(), undefined],
    ['where the database is', mark({ reached: 500 }), undefined],
    ['ahead of it', mark({ reached: 501 }), 501],
    ['behind, but reserved further than any commit before could have made it', mark({ reserved: 100_700 }), 700],
    [
      'of the epoch before: the new one was begun, and the server killed',
      mark({ epoch: 'd', reached: 900 }),
      undefined,
    ],
    ['of another epoch', mark({ epoch: 'f', reached: 7 }), 7],
    ['of a database that nothing was written to', mark({ epoch: 'f', reached: 0 }), 500],
    ['damaged', 'damaged', 500],
    ['missing', undefined, 500],
  ])('%s', (_, found, known) => {
    expect(lossShownBy(found, standing)?.revision).toBe(known);
  });

  it('is there from the start, for its owner alone', async () => {
    await close(await open());
    expect(existsSync(join(live, 'fishery.mark'))).toBe(true);
    expect(readMark(live)).toMatchObject({ reached: 0, reserved: 100_000 });
    expect(lossShownBy(undefined, { epoch: 'e', former: new Set(), revision: 0 })).toBeUndefined();
  });

  it('reserves again before it is reached', async () => {
    const world = await open();
    await world.seen('stranger', 1);
    const { from } = await world.store.reader.epoch();
    expect(readMark(live)).toMatchObject({ reached: from, reserved: from });
    await world.confirm(2);
    expect(readMark(live)).toMatchObject({ reached: from + 1, reserved: from + 100_000 });
    await close(world);
  });
});
