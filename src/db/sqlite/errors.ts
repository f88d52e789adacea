import Database from 'better-sqlite3';
import { StoreError, type StoreFailure } from '../../leases/store.ts';

/** By the beginning of SQLite's result code (https://www.sqlite.org/rescode.html). */
const failures: readonly (readonly [code: string, failure: StoreFailure, says: string])[] = [
  ['SQLITE_CONSTRAINT', 'constraint', 'the database refused a row'],
  ['SQLITE_FULL', 'full', 'the disk is full: free some space, nothing that was answered is lost'],
  ['SQLITE_READONLY', 'read_only', 'the database file or its directory is read-only'],
  ['SQLITE_BUSY', 'busy', 'another process holds the database locked'],
  ['SQLITE_LOCKED', 'busy', 'the database is locked'],
  ['SQLITE_CORRUPT', 'corrupt', 'the database file is damaged: restore a backup'],
  ['SQLITE_NOTADB', 'corrupt', 'the file is not a Fishery database'],
  ['SQLITE_IOERR', 'io', 'the disk could not be read or written'],
  ['SQLITE_CANTOPEN', 'io', 'the database file cannot be opened: look at its directory and permissions'],
];

/** What SQLite reports, as a failure of the store; anything else is a bug and stays as it is. */
export function storeErrorOf(error: unknown): unknown {
  if (!(error instanceof Database.SqliteError)) return error;
  const [, failure, says] = failures.find(([code]) => error.code.startsWith(code)) ?? [
    '',
    'io' as const,
    'SQLite failed',
  ];
  return new StoreError(failure, `${says} (${error.code}: ${error.message})`, error);
}
