import Database from 'better-sqlite3';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { upgrade } from '../../src/db/sqlite/migrations.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { temporaryStore } from '../support/temporary-store.ts';
import { tcp, World } from '../support/world.ts';

const root = join(import.meta.dirname, '../..');
const folder = join(root, 'migrations/sqlite');
type Journal = { entries: { tag: string }[] };
const journalOf = (of: string) => JSON.parse(readFileSync(join(of, 'meta/_journal.json'), 'utf8')) as Journal;
const steps = journalOf(folder).entries.map(({ tag }) => tag);

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'fishery-migrations-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

/** The migrations as they were when there were only so many. */
function folderOf(count: number): string {
  const copy = join(directory, `first-${count}`);
  cpSync(folder, copy, { recursive: true });
  const journal = journalOf(copy);
  writeFileSync(
    join(copy, 'meta/_journal.json'),
    JSON.stringify({ ...journal, entries: journal.entries.slice(0, count) }),
  );
  return copy;
}

const schemaOf = (connection: Database.Database): unknown =>
  connection.prepare('SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name').all();

function freshSchema(): unknown {
  const connection = new Database(':memory:');
  upgrade(connection);
  return schemaOf(connection);
}

describe('the migrations', () => {
  it('are all in the journal, in order', () => {
    const files = readdirSync(folder).filter((name) => name.endsWith('.sql'));
    expect(files.sort()).toEqual(steps.map((tag) => `${tag}.sql`));
  });

  it('make a database, and change nothing the second time', () => {
    const connection = new Database(':memory:');
    upgrade(connection);
    const once = schemaOf(connection);
    connection.exec(`INSERT INTO meta (key, value) VALUES ('kept', '1')`);
    upgrade(connection);
    expect(schemaOf(connection)).toEqual(once);
    expect(connection.prepare('SELECT * FROM meta').all()).toEqual([{ key: 'kept', value: '1' }]);
  });

  it.each(steps.map((_, count) => count))(
    'lead to the same database from where only %i of them were applied',
    (count) => {
      const connection = new Database(':memory:');
      upgrade(connection, folderOf(count));
      upgrade(connection);
      expect(schemaOf(connection)).toEqual(freshSchema());
    },
  );

  it('are what the schema in the code says', () => {
    const out = join(directory, 'out');
    cpSync(folder, out, { recursive: true });
    // The tool takes every path as one below the folder that it runs in.
    const config = join(directory, 'drizzle.config.json');
    const options = { dialect: 'sqlite', schema: './src/db/sqlite/schema.ts', out: relative(root, out) };
    writeFileSync(config, JSON.stringify(options));
    const { stdout, status } = spawnSync(
      process.execPath,
      [join(root, 'node_modules/drizzle-kit/bin.cjs'), 'generate', '--config', relative(root, config)],
      { cwd: root, encoding: 'utf8' },
    );
    expect([status, readdirSync(out).sort()]).toEqual([0, readdirSync(folder).sort()]);
    expect(stdout).toContain('No schema changes');
  });

  it('are applied whole or not at all', () => {
    const broken = folderOf(steps.length);
    writeFileSync(
      join(broken, `${steps.at(-1)}.sql`),
      'CREATE TABLE half (id integer);--> statement-breakpoint\nnonsense;',
    );
    const connection = new Database(':memory:');
    expect(() => upgrade(connection, broken)).toThrow();
    upgrade(connection);
    expect(schemaOf(connection)).toEqual(freshSchema());
  });
});

describe('what the database keeps', () => {
  it('comes back as it was put in: every kind of row and event', async () => {
    await using temporary = await temporaryStore();
    const [memory, sqlite] = [new World(new MemoryStore()), new World(temporary.store)];
    for (const world of [memory, sqlite]) {
      await world.pool('v6', ['2001:db8::/48'], { labels: { 'site/name': 'fra1', note: 'größer "quoted" \n' } });
      await world.machine('edge-1');
      await world.alive('edge-1');
      await world.holder('edge-1', 'web', 'proxy', 4_294_967_294);
      await world.ready('edge-1', 'v6');
      const [lease] = await world.leases(await world.session('edge-1', 'web'), tcp(4));
      if (lease) await world.revoke(lease.id, "o'clock; DROP TABLE leases");
      await world.execute({
        kind: 'createToken',
        name: 'ci',
        role: 'operator',
        machine: null,
        holder: null,
        hash: 'h',
      });
    }
    await temporary.reopen();
    const { reader } = temporary.store;
    expect(await reader.eventsAfter(0, null, 100)).toEqual(memory.events);
    expect(await reader.machine('edge-1')).toEqual(await memory.store.reader.machine('edge-1'));
    expect(await reader.pool('v6')).toEqual(await memory.store.reader.pool('v6'));
    expect(await reader.accessToken('h')).toEqual(await memory.store.reader.accessToken('h'));
  });
});
