import { readMigrationFiles } from 'drizzle-orm/migrator';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { StoreError } from '../../leases/store.ts';

const folder = fileURLToPath(new URL('../../../migrations/postgres', import.meta.url));

/** Servers that start together upgrade one after the other. Any number would do; this one is nobody else's. */
const upgradeLock = 7_480_001;

const appliedTable = '__drizzle_migrations';

/** Brings the tables up to date, in one transaction: another server, or nobody, sees a half of it. */
export async function migrate(client: pg.Client, migrationsFolder = folder): Promise<void> {
  const migrations = readMigrationFiles({ migrationsFolder });
  if ((await appliedCount(client)) === migrations.length) return;
  await client.query('BEGIN');
  try {
    await client.query('SELECT pg_advisory_xact_lock($1)', [upgradeLock]);
    await client.query(
      `CREATE TABLE IF NOT EXISTS ${appliedTable} (id serial PRIMARY KEY, hash text NOT NULL, created_at bigint)`,
    );
    const applied = await appliedCount(client);
    if (applied > migrations.length)
      throw new StoreError(
        'read_only',
        `the database was made by a newer Fishery (${applied} migrations, this one knows ${migrations.length}): upgrade this server`,
      );
    for (const { sql, hash, folderMillis } of migrations.slice(applied)) {
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

async function appliedCount(client: pg.Client): Promise<number> {
  const exists = await client.query<{ found: string | null }>('SELECT to_regclass($1) AS found', [appliedTable]);
  if (exists.rows[0]?.found == null) return 0;
  const { rows } = await client.query<{ count: number }>(`SELECT count(*) AS count FROM ${appliedTable}`);
  return rows[0]?.count ?? 0;
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
