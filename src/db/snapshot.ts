import type { StoreLocation } from './open.ts';
import type { Read } from './statement.ts';
import { lightly } from './light-import.ts';

/**
 * One state of a database, held still while it is read, however long that takes. It is read without a lock: the servers on
 * the database go on, and nothing that they do shows.
 */
export interface Snapshot extends AsyncDisposable {
  run<T>(read: Read<T>): Promise<T>;
  /** What is wrong with the file itself, where the database does not look after that: goes through all of it. */
  damage(): Promise<readonly string[]>;
}

/** Throws a `StoreError` that says what to do: there is no database, or its tables are not as this code knows them. */
export async function openSnapshot({ url, directory }: StoreLocation): Promise<Snapshot> {
  if (url === undefined) return (await lightly(() => import('./sqlite/snapshot.ts'))).openSqliteSnapshot(directory);
  return (await lightly(() => import('./postgres/snapshot.ts'))).openPostgresSnapshot(url);
}
