import Database from 'better-sqlite3';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { check } from '../../src/db/check/check.ts';
import { openSnapshot } from '../../src/db/snapshot.ts';
import { openSqliteStore, type OpenOptions } from '../../src/db/sqlite/open.ts';
import { StoreError, type Store } from '../../src/leases/store.ts';
import { World } from '../support/world.ts';

let own: string;
/** Which directory is opened: the test's own, unless it says otherwise. */
let directory: string;

beforeEach(() => {
  own = mkdtempSync(join(tmpdir(), 'fishery-open-'));
  directory = own;
});
afterEach(() => rmSync(own, { recursive: true, force: true }));

const open = (options: Partial<OpenOptions> = {}) =>
  openSqliteStore({ directory, newEpoch: () => `epoch-${Math.random()}`, nowUs: () => 0, ...options });
/** Why it cannot be opened: `kind: message`. */
const refusalOf = async (opening: Promise<Store>): Promise<string> => {
  const error = await opening.then(
    () => 'nothing',
    (reason: unknown) => reason,
  );
  return error instanceof StoreError ? `${error.failure}: ${error.message}` : String(error);
};
const onFile = <T>(use: (connection: Database.Database) => T): T => {
  const connection = new Database(join(directory, 'fishery.db'));
  try {
    return use(connection);
  } finally {
    connection.close();
  }
};

describe('opening a store', () => {
  it('makes the directory and the database when they are missing', async () => {
    directory = join(directory, 'deep', 'down');
    const store = await open();
    expect(existsSync(join(directory, 'fishery.db'))).toBe(true);
    expect(await store.reader.revision()).toBe(0);
    expect(await store.reader.oldestRevision()).toBe(1);
    await store.close();
  });

  it('keeps the identity that the database got when it was made, and when that was', async () => {
    const first = await open({ newEpoch: () => 'epoch-1', nowUs: () => 17 });
    const made = { id: 'epoch-1', number: 1, beganAt: 17, confirmedAt: 17 };
    expect(await first.reader.epoch()).toMatchObject(made);
    await first.close();
    const second = await open({ newEpoch: () => 'epoch-2', nowUs: () => 18 });
    expect(await second.reader.epoch()).toMatchObject(made);
    await second.close();
  });

  it('finds everything that was answered', async () => {
    const first = await open();
    const world = new World(first);
    await world.pool('v6', ['2001:db8::/48']);
    await world.machine('edge-1');
    await world.ready('edge-1', 'v6', 3);
    await first.close();
    const second = await open();
    expect(await second.reader.eventsAfter(0, null, 100)).toEqual(world.events);
    expect((await second.reader.pool('v6'))?.cursors).toEqual([3n]);
    await second.close();
  });
});

describe('a second server on the same directory', () => {
  it('is refused while the first runs, and let in when it is gone', async () => {
    const first = await open();
    await expect(open()).rejects.toMatchObject({
      failure: 'busy',
      message: `another Fishery server is running on ${directory}: stop it first`,
    });
    await first.close();
    const second = await open();
    await second.close();
  });

  it('is let in when the first was killed, in whatever it was', async () => {
    const child = spawn(process.execPath, [join(import.meta.dirname, '../support/hold-store.ts'), directory], {
      stdio: 'pipe',
    });
    await once(child.stdout, 'data');
    await expect(open()).rejects.toMatchObject({ failure: 'busy' });
    child.kill('SIGKILL');
    await once(child, 'exit');
    const store = await open();
    await store.close();
  });

  it('does not keep others from reading the database', async () => {
    const store = await open();
    await new World(store).machine('edge-1');
    expect(onFile((connection) => connection.prepare('SELECT id FROM machines').get())).toEqual({ id: 'edge-1' });
    await store.close();
  });
});

describe('what cannot be opened', () => {
  it('is said clearly: a directory that cannot be made', async () => {
    const file = join(directory, 'file');
    writeFileSync(file, '');
    directory = join(file, 'below');
    expect(await refusalOf(open())).toContain(`the data directory ${directory} cannot be made`);
    expect(await refusalOf(open())).toMatch(/^io: /);
  });

  it('is said clearly: a directory that cannot be written', async () => {
    // Nobody can make a file there, root included.
    directory = '/proc/self';
    expect(await refusalOf(open())).toContain('the data directory /proc/self cannot be written');
    expect(await refusalOf(open())).toMatch(/^read_only: /);
  });

  it('is said clearly: a file that is no database', async () => {
    writeFileSync(join(directory, 'fishery.db'), 'dear diary, '.repeat(1_000));
    expect(await refusalOf(open())).toContain('is not a Fishery database');
    expect(await refusalOf(open())).toMatch(/^corrupt: /);
    expect(readFileSync(join(directory, 'fishery.db'), 'utf8')).toMatch(/^dear diary/);
  });

  it('is said clearly: a database of a newer version, which is left as it is', async () => {
    await (await open()).close();
    onFile((connection) =>
      connection.prepare('INSERT INTO __drizzle_migrations (hash, created_at) VALUES (?, ?)').run('next', 9e15),
    );
    const before = readFileSync(join(directory, 'fishery.db'));
    expect(await refusalOf(open())).toContain('made by a newer Fishery');
    expect(await refusalOf(open())).toMatch(/^read_only: /);
    expect(readFileSync(join(directory, 'fishery.db'))).toEqual(before);
  });

  it('leaves no lock behind', async () => {
    writeFileSync(join(directory, 'fishery.db'), 'dear diary, '.repeat(1_000));
    await expect(open()).rejects.toMatchObject({ failure: 'corrupt' });
    rmSync(join(directory, 'fishery.db'));
    await (await open()).close();
  });
});

describe('a database that is damaged', () => {
  /** Spoils the one page of the file that has a certain machine in it. */
  async function damage(): Promise<void> {
    const store = await open();
    const world = new World(store);
    for (let index = 0; index < 200; index++) await world.machine(`machine-${index}`);
    await store.close();
    onFile((connection) => connection.pragma('wal_checkpoint(TRUNCATE)'));
    const bytes = readFileSync(join(directory, 'fishery.db'));
    const page = bytes.lastIndexOf('machine-150') & ~4_095;
    expect(page).toBeGreaterThan(0);
    bytes[page] = 0xa5;
    writeFileSync(join(directory, 'fishery.db'), bytes);
  }
  const noteUnclean = () => onFile((connection) => connection.exec(`UPDATE meta SET value = '1' WHERE key = 'open'`));

  it('is looked through after a server that did not close it, and refused', async () => {
    await damage();
    noteUnclean();
    expect(await refusalOf(open())).toMatch(/^corrupt: .*damaged/);
  });

  it('is looked through when that is asked for', async () => {
    await damage();
    await expect(open({ check: true })).rejects.toMatchObject({ failure: 'corrupt' });
  });

  it('is not looked through at every start: that takes long for a large one', async () => {
    await damage();
    const store = await open();
    await store.close();
  });

  it('is not looked through after an unclean end when it is large, and found by a check', async () => {
    await damage();
    noteUnclean();
    const store = await open({ file_checked_bytes_max: 8_192 });
    await store.close();
    await using snapshot = await openSnapshot({ url: undefined, directory });
    const { flaws, flawCount } = await check(snapshot);
    expect(flaws[0]).toMatch(/fishery\.db is damaged: /);
    expect(flawCount).toBeGreaterThan(0);
  });

  it('is opened after an unclean end when it is whole', async () => {
    await (await open()).close();
    noteUnclean();
    await (await open()).close();
  });
});
