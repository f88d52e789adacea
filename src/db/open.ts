import Database from 'better-sqlite3';
import { drizzle } from 'drizzle-orm/better-sqlite3';
import { migrate } from 'drizzle-orm/better-sqlite3/migrator';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { StoreError, type Store } from '../leases/store.ts';
import { SqliteStore } from './sqlite-store.ts';
import type { Connection } from './statements.ts';
import { storeErrorOf } from './store-errors.ts';

export type OpenOptions = Readonly<{
  /** Made when missing. Holds `fishery.db`, its write-ahead log and the lock. */
  directory: string;
  /** A new identity of the table, random: taken only when the database is made. */
  newEpoch: () => string;
}>;

const migrationsFolder = fileURLToPath(new URL('../../migrations/sqlite', import.meta.url));

/**
 * Opens the store in a directory, making or upgrading its database. Two servers on one directory would hand out the same
 * ports, so the second is refused. Throws `StoreError` that says what to do.
 */
export async function openSqliteStore({ directory, newEpoch }: OpenOptions): Promise<Store> {
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw new StoreError('io', `the data directory ${directory} cannot be made: ${messageOf(error)}`, error);
  }
  const release = lock(directory);
  try {
    const connection = open(join(directory, 'fishery.db'));
    upgrade(connection);
    const epoch = stored(connection, 'epoch', newEpoch);
    const allocatorEpoch = Number(stored(connection, 'allocator_epoch', () => '1'));
    return new SqliteStore({ connection, epoch, allocatorEpoch, onClose: release });
  } catch (error) {
    release();
    throw storeErrorOf(error);
  }
}

function open(path: string): Connection {
  const connection = new Database(path);
  connection.pragma('journal_mode = WAL');
  connection.pragma('synchronous = FULL');
  connection.pragma('busy_timeout = 2000');
  // The write-ahead log is moved into the database by commits, a little at a time; this bounds what stays on disk.
  connection.pragma('journal_size_limit = 67108864');
  connection.pragma('cache_size = -65536');
  connection.pragma('temp_store = MEMORY');
  return connection;
}

/**
 * A lock that dies with its process, whatever ends it: an open exclusive transaction on a file of its own, which is
 * nothing but a lock of the operating system.
 */
function lock(directory: string): () => void {
  let holder: Connection | undefined;
  try {
    holder = new Database(join(directory, 'fishery.lock'), { timeout: 0 });
    holder.exec('BEGIN EXCLUSIVE');
  } catch (error) {
    holder?.close();
    const isHeld = error instanceof Database.SqliteError && error.code.startsWith('SQLITE_BUSY');
    if (isHeld) throw new StoreError('busy', `another Fishery server is running on ${directory}: stop it first`, error);
    throw storeErrorOf(error);
  }
  return () => holder.close();
}

function upgrade(connection: Connection): void {
  const known = knownMigrations();
  const applied = appliedMigrations(connection);
  if (applied > known)
    throw new StoreError(
      'read_only',
      `the database was made by a newer Fishery (${applied} migrations, this one knows ${known}): upgrade this server`,
    );
  migrate(drizzle(connection), { migrationsFolder });
}

const knownMigrations = (): number =>
  (JSON.parse(readFileSync(join(migrationsFolder, 'meta', '_journal.json'), 'utf8')) as { entries: unknown[] }).entries
    .length;

function appliedMigrations(connection: Connection): number {
  const table = connection.prepare(`SELECT 1 FROM sqlite_master WHERE name = '__drizzle_migrations'`).get();
  if (table === undefined) return 0;
  return (
    connection.prepare<[], { count: number }>('SELECT count(*) AS count FROM __drizzle_migrations').get()?.count ?? 0
  );
}

function stored(connection: Connection, key: string, make: () => string): string {
  connection.prepare('INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO NOTHING').run(key, make());
  const row = connection.prepare<[string], { value: string }>('SELECT value FROM meta WHERE key = ?').get(key);
  if (!row) throw new Error(`meta has no ${key}`);
  return row.value;
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
