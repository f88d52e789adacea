import Database from 'better-sqlite3';
import { join } from 'node:path';
import { StoreError, type Store } from '../../leases/store.ts';
import { makeDataDirectory } from '../directory.ts';
import type { Beginning } from '../first-epoch.ts';
import { storeErrorOf } from './errors.ts';
import { ensureEpoch, standingOf } from './epoch-rows.ts';
import { damageIn } from './damage.ts';
import { lockDirectory } from './lock.ts';
import { HighWaterMark, lossShownBy, readMark } from './mark.ts';
import { Meta } from './meta.ts';
import { upgrade } from './migrations.ts';
import { SqliteStore } from './store.ts';
import type { Connection } from './statements.ts';

/**
 * A larger file is not looked through at the start after a kill: that would take a second for each gigabyte, and more from
 * a slow disk, in which every machine waits. What a kill leaves is whole by the write-ahead log; `fishery check` looks
 * through all of it while the server runs.
 */
const checked_bytes_max = 64 * 1024 * 1024;

export type OpenOptions = Readonly<{
  /** Made when missing. Holds `fishery.db`, its write-ahead log and the lock. */
  directory: string;
  /** A new identity of the table, random: for when the database is made, and for each epoch that begins later. */
  newEpoch: () => string;
  /** Microseconds since 1970: when the database is made, if it is. */
  nowUs: () => number;
  /**
   * Where the log of a database that is made begins, by the clock of then; with the first revision when not given. A table
   * that takes the place of a lost one begins above all that was given out there.
   */
  beginning?: (nowUs: number) => Beginning;
  /** Looks through the whole file for damage. Without it, only after the last server did not close it, and not a large one. */
  check?: boolean;
  /** What is a large one. */
  file_checked_bytes_max?: number;
  /** How large the file may become; nothing is written beyond. Unlimited when not given. */
  size_bytes_max?: number;
}>;

/**
 * Opens the store in a directory, making or upgrading its database. Two servers on one directory would hand out the same
 * ports, so the second is refused. Throws a `StoreError` that says what to do.
 */
export async function openSqliteStore(options: OpenOptions): Promise<Store> {
  const { directory, newEpoch } = options;
  makeDataDirectory(directory);
  const unlock = lockDirectory(directory);
  let connection: Connection | undefined;
  let mark: HighWaterMark | undefined;
  try {
    connection = connect(join(directory, 'fishery.db'), options.size_bytes_max);
    upgrade(connection);
    ensureEpoch(connection, newEpoch, options.nowUs, options.beginning);
    const meta = new Meta(connection);
    const isDue = !meta.wasClosed() && fileBytes(connection) <= (options.file_checked_bytes_max ?? checked_bytes_max);
    if (options.check === true || isDue) refuseDamaged(connection, directory);
    meta.noteOpen();
    const standing = standingOf(connection);
    const loss = lossShownBy(readMark(directory), standing);
    mark = new HighWaterMark(directory, loss ? undefined : { epoch: standing.epoch, reached: standing.revision });
    return new SqliteStore({ connection, mark, loss, newEpoch, onClose: closer(connection, mark, meta, unlock) });
  } catch (error) {
    connection?.close();
    mark?.close();
    unlock();
    throw storeErrorOf(error);
  }
}

const closer = (connection: Connection, mark: HighWaterMark, meta: Meta, unlock: () => void) => () => {
  try {
    meta.noteClosed();
  } catch {
    // On a full disk, say. The next start looks through the file then, and that is all that comes of it.
  }
  connection.close();
  mark.close();
  unlock();
};

export function connect(path: string, sizeBytesMax: number | undefined): Connection {
  const connection = new Database(path);
  connection.pragma('busy_timeout = 2000');
  connection.pragma('journal_mode = WAL');
  connection.pragma('synchronous = FULL');
  connection.pragma('foreign_keys = ON');
  // The write-ahead log is moved into the database by commits, a little at a time; this bounds what stays on disk.
  connection.pragma('journal_size_limit = 67108864');
  connection.pragma('cache_size = -65536');
  connection.pragma('temp_store = MEMORY');
  if (sizeBytesMax !== undefined) {
    const pageBytes = Number(connection.pragma('page_size', { simple: true }));
    connection.pragma(`max_page_count = ${Math.max(1, Math.floor(sizeBytesMax / pageBytes))}`);
  }
  return connection;
}

const fileBytes = (connection: Connection): number =>
  Number(connection.pragma('page_count', { simple: true })) * Number(connection.pragma('page_size', { simple: true }));

function refuseDamaged(connection: Connection, directory: string): void {
  const flaws = damageIn(connection, 5);
  if (flaws.length === 0) return;
  const where = join(directory, 'fishery.db');
  throw new StoreError('corrupt', `${where} is damaged, restore a backup: ${flaws.join('; ')}`);
}
