import Database from 'better-sqlite3';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { migrate } from '../../src/db/postgres/migrations.ts';
import { upgrade } from '../../src/db/sqlite/migrations.ts';
import { temporaryDatabase, type TemporaryDatabase } from '../support/postgres/database.ts';

const root = join(import.meta.dirname, '../..');
const [sqliteFolder, folder] = [join(root, 'migrations/sqlite'), join(root, 'migrations/postgres')];
const stepsIn = (of: string) =>
  (JSON.parse(readFileSync(join(of, 'meta/_journal.json'), 'utf8')) as { entries: { tag: string }[] }).entries.map(
    ({ tag }) => tag,
  );

let directory: string;
let database: TemporaryDatabase;
beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'fishery-migrations-'));
  database = await temporaryDatabase();
});
afterAll(async () => {
  rmSync(directory, { recursive: true, force: true });
  await database[Symbol.asyncDispose]();
});

type Column = Readonly<{ table: string; name: string; optional: boolean }>;
const show = ({ table, name, optional }: Column) => `${table}.${name}${optional ? '?' : ''}`;
/** What one of the two has by nature: what servers share beside the rows, and the tool's own list of what it applied. */
const isCommon = (name: string) => !/^(?:log_end|port_counts|__drizzle_migrations|sqlite_)/.test(name);

function sqlite(): Database.Database {
  const connection = new Database(':memory:');
  upgrade(connection);
  return connection;
}

describe('the migrations of the two databases', () => {
  it('are the same steps by name, and all in the journal', () => {
    expect(stepsIn(folder)).toEqual(stepsIn(sqliteFolder));
    const files = readdirSync(folder).filter((name) => name.endsWith('.sql'));
    expect(files.sort()).toEqual(stepsIn(folder).map((tag) => `${tag}.sql`));
  });

  it('come to the same tables, columns, indexes and checks', async () => {
    const lite = sqlite()
      .prepare<[], { table: string; name: string; notnull: number; pk: number }>(
        `SELECT m.name AS "table", c.name, c."notnull", c.pk FROM sqlite_master AS m JOIN pragma_table_info(m.name) AS c
         WHERE m.type = 'table'`,
      )
      .all()
      .map(({ table, name, notnull, pk }) => ({ table, name, optional: notnull === 0 && pk === 0 }));
    const postgres = await database.query(
      `SELECT table_name AS "table", column_name AS name, (is_nullable = 'YES')::int4 AS optional
       FROM information_schema.columns WHERE table_schema = 'public'`,
    );
    const columns = (list: readonly Column[]) =>
      list
        .filter(({ table }) => isCommon(table))
        .map(show)
        .sort();
    const found = postgres.map(({ table, name, optional }) => ({
      ...{ table: String(table), name: String(name), optional: optional === 1 },
    }));
    expect(columns(found)).toEqual(columns(lite));

    const names = (list: readonly { name?: unknown }[]) =>
      list
        .map(({ name }) => String(name))
        .filter((name) => isCommon(name) && !/_(?:pk|pkey|fk|disjoint)$/.test(name))
        .sort();
    const indexes = sqlite().prepare<[], { name: string }>(`SELECT name FROM sqlite_master WHERE type = 'index'`).all();
    expect(names(await database.query(`SELECT indexname AS name FROM pg_indexes WHERE schemaname = 'public'`))).toEqual(
      names(indexes),
    );
    const text = sqlite().prepare<[], { sql: string }>(`SELECT sql FROM sqlite_master WHERE type = 'table'`).all();
    const checks = text.flatMap(({ sql }) =>
      [...sql.matchAll(/CONSTRAINT "(\w+)" CHECK/g)].map(([, name]) => ({ name })),
    );
    expect(checks.length).toBeGreaterThan(5);
    expect(
      names(await database.query(`SELECT conname AS name FROM pg_constraint WHERE contype = 'c' AND conrelid <> 0`)),
    ).toEqual(names(checks));
  });
});

describe('the migrations of PostgreSQL', () => {
  it('are what the schema in the code says', () => {
    const out = join(directory, 'out');
    cpSync(folder, out, { recursive: true });
    // The tool takes every path as one below the folder that it runs in.
    const config = join(directory, 'drizzle.config.json');
    const options = { dialect: 'postgresql', schema: './src/db/postgres/schema.ts', out: relative(root, out) };
    writeFileSync(config, JSON.stringify(options));
    const { stdout, status } = spawnSync(
      process.execPath,
      [join(root, 'node_modules/drizzle-kit/bin.cjs'), 'generate', '--config', relative(root, config)],
      { cwd: root, encoding: 'utf8' },
    );
    expect([status, readdirSync(out).sort()]).toEqual([0, readdirSync(folder).sort()]);
    expect(stdout).toContain('No schema changes');
  });

  it('are applied whole or not at all', async () => {
    await using empty = await temporaryDatabase('');
    const broken = join(directory, 'broken');
    cpSync(folder, broken, { recursive: true });
    const last = join(broken, `${stepsIn(folder).at(-1)}.sql`);
    writeFileSync(last, `${readFileSync(last, 'utf8')}--> statement-breakpoint\nnonsense;`);
    const client = new pg.Client({ connectionString: empty.url });
    await client.connect();
    try {
      await expect(migrate(client, broken)).rejects.toThrow('nonsense');
      expect(await empty.query(`SELECT 1 FROM pg_tables WHERE schemaname = 'public'`)).toEqual([]);
      await migrate(client);
      await migrate(client);
      const applied = await empty.query('SELECT count(*)::int4 AS count FROM __drizzle_migrations');
      expect(applied).toEqual([{ count: stepsIn(folder).length }]);
    } finally {
      await client.end();
    }
  });
});
