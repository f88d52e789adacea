import Database from 'better-sqlite3';
import { join } from 'node:path';
import { StoreError } from '../../leases/store.ts';

/**
 * Takes a directory for this process; returns how to let it go. The lock dies with its process, whatever ends that: it is
 * an open exclusive transaction on a file of its own, which writes nothing and is a lock of the operating system. The
 * database itself stays readable for others, for a backup or a look.
 */
export function lockDirectory(directory: string): () => void {
  let holder: Database.Database | undefined;
  try {
    holder = new Database(join(directory, 'fishery.lock'), { timeout: 0 });
    holder.exec('BEGIN EXCLUSIVE');
  } catch (error) {
    holder?.close();
    if (!(error instanceof Database.SqliteError)) throw error;
    if (error.code.startsWith('SQLITE_BUSY'))
      throw new StoreError('busy', `another Fishery server is running on ${directory}: stop it first`, error);
    if (error.code.startsWith('SQLITE_NOTADB'))
      throw new StoreError('io', `${join(directory, 'fishery.lock')} is something else: remove it`, error);
    throw new StoreError('read_only', `the data directory ${directory} cannot be written: ${error.message}`, error);
  }
  return () => holder.close();
}
