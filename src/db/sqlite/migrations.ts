import { drizzle } from 'drizzle-orm/better-sqlite3';
import { migrate } from 'drizzle-orm/better-sqlite3/migrator';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { StoreError } from '../../leases/store.ts';
import type { Connection } from './statements.ts';

const folder = fileURLToPath(new URL('../../../migrations/sqlite', import.meta.url));

/** Brings the database to what this code expects, in one transaction. One that is newer is refused and left as it is. */
export function upgrade(connection: Connection, migrationsFolder = folder): void {
  const known = knownMigrations(migrationsFolder);
  const applied = appliedMigrations(connection);
  if (applied > known)
    throw new StoreError(
      'read_only',
      `the database was made by a newer Fishery (${applied} migrations, this one knows ${known}): upgrade this server`,
    );
  migrate(drizzle(connection), { migrationsFolder });
}

const knownMigrations = (migrationsFolder: string): number =>
  (JSON.parse(readFileSync(join(migrationsFolder, 'meta', '_journal.json'), 'utf8')) as { entries: unknown[] }).entries
    .length;

function appliedMigrations(connection: Connection): number {
  const table = connection.prepare(`SELECT 1 FROM sqlite_master WHERE name = '__drizzle_migrations'`).get();
  if (table === undefined) return 0;
  return (
    connection.prepare<[], { count: number }>('SELECT count(*) AS count FROM __drizzle_migrations').get()?.count ?? 0
  );
}
