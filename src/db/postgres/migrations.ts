import { readMigrationFiles } from 'drizzle-orm/migrator';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { StoreError } from '../../leases/store.ts';
import { refuseNewer, stepsIn, type Standing } from '../migration-steps.ts';

const folder = fileURLToPath(new URL('../../../migrations/postgres', import.meta.url));

/** Servers that start together upgrade one after the other. Any number would do; this one is nobody else's. */
const upgradeLock = 7_480_001;

const appliedTable = '__drizzle_migrations';

/** Brings the tables up to date, in one transaction: no other server, and no crash, sees a half of it. */
export async function migrate(client: pg.Client, migrationsFolder = folder): Promise<void> {
  const before = await standingOf(client, migrationsFolder);
  if (before.applied === before.steps.length) return;
  await client.query('BEGIN');
  try {
    await client.query('SELECT pg_advisory_xact_lock($1)', [upgradeLock]);
    await client.query(
      `CREATE TABLE IF NOT EXISTS ${appliedTable} (id serial PRIMARY KEY, hash text NOT NULL, created_at bigint)`,
    );
    const standing = await standingOf(client, migrationsFolder);
    refuseNewer(standing);
    const migrations = readMigrationFiles({ migrationsFolder }).slice(standing.applied);
    for (const { sql, hash, folderMillis } of migrations) {
      // The generator names the schema of its own tables in references; here it is the first of the role's search path.
      for (const statement of sql) await client.query(statement.replaceAll('"public".', ''));
      await client.query(`INSERT INTO ${appliedTable} (hash, created_at) VALUES ($1, $2)`, [hash, folderMillis]);
    }
    await client.query('COMMIT');
  } catch (error) {
    await client.query('ROLLBACK').catch(() => {});
    throw explained(error);
  }
}

/** Where the database stands. */
export async function standingOf(client: pg.Client, migrationsFolder = folder): Promise<Standing> {
  const steps = stepsIn(migrationsFolder);
  const exists = await client.query<{ found: string | null }>('SELECT to_regclass($1) AS found', [appliedTable]);
  if (exists.rows[0]?.found == null) return { steps, applied: 0 };
  const { rows } = await client.query<{ count: number }>(`SELECT count(*)::int4 AS count FROM ${appliedTable}`);
  return { steps, applied: rows[0]?.count ?? 0 };
}

/** Whoever may not make tables or the extension learns what to ask an administrator for. */
function explained(error: unknown): unknown {
  if (!(error instanceof pg.DatabaseError)) return error;
  const extension = 'the extension btree_gist, which guards leases against overlap,';
  const isAboutExtension = /btree_gist/.test(error.message);
  if (error.code === '42501' && isAboutExtension)
    return new StoreError(
      'io',
      `the role of database_url may not create ${extension} here: have an administrator run CREATE EXTENSION btree_gist in this database`,
      error,
    );
  if ((error.code === '58P01' || error.code === '0A000') && isAboutExtension)
    return new StoreError(
      'io',
      `${extension} is not installed on the database server: install postgresql-contrib`,
      error,
    );
  if (error.code === '42501')
    return new StoreError(
      'io',
      `the role of database_url may not make tables here (${error.message}): grant it CREATE on the schema`,
      error,
    );
  return error;
}
