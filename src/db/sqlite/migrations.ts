import { drizzle } from 'drizzle-orm/better-sqlite3';
import { migrate } from 'drizzle-orm/better-sqlite3/migrator';
import { fileURLToPath } from 'node:url';
import { refuseNewer, stepsIn, type Standing } from '../migration-steps.ts';
import type { Connection } from './statements.ts';

const folder = fileURLToPath(new URL('../../../migrations/sqlite', import.meta.url));

/** Brings the database to what this code expects, in one transaction. One that is newer is refused and left as it is. */
export function upgrade(connection: Connection, migrationsFolder = folder): void {
  refuseNewer(standingOf(connection, migrationsFolder));
  migrate(drizzle(connection), { migrationsFolder });
}

/** Where a database stands; without one, at the beginning. */
export function standingOf(connection: Connection | undefined, migrationsFolder = folder): Standing {
  return { steps: stepsIn(migrationsFolder), applied: connection ? appliedCount(connection) : 0 };
}

function appliedCount(connection: Connection): number {
  const table = connection.prepare(`SELECT 1 FROM sqlite_master WHERE name = '__drizzle_migrations'`).get();
  if (table === undefined) return 0;
  return (
    connection.prepare<[], { count: number }>('SELECT count(*) AS count FROM __drizzle_migrations').get()?.count ?? 0
  );
}
