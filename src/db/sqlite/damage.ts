import Database from 'better-sqlite3';
import type { Connection } from './statements.ts';

/** What is wrong with the file itself: pages that contradict each other. Goes through all of it. */
export function damageIn(connection: Connection, flawsMax: number): readonly string[] {
  let found: readonly { quick_check: string }[];
  try {
    found = connection.pragma(`quick_check(${flawsMax})`) as readonly { quick_check: string }[];
  } catch (error) {
    // Some damage ends the search itself.
    if (error instanceof Database.SqliteError && error.code.startsWith('SQLITE_CORRUPT')) return [error.message];
    throw error;
  }
  return found.map((row) => row.quick_check).filter((text) => text !== 'ok');
}
