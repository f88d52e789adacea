import Database from 'better-sqlite3';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { StoreError } from '../../leases/store.ts';
import { refuseOther, type Standing } from '../migration-steps.ts';
import type { Snapshot } from '../snapshot.ts';
import { damageIn } from './damage.ts';
import { storeErrorOf } from './errors.ts';
import { standingOf } from './migrations.ts';
import { Statements } from './statements.ts';

const flaws_of_file_max = 20;

/** The database in a directory as it is now. A server may have it open: its write-ahead log keeps this state readable. */
export async function openSqliteSnapshot(directory: string): Promise<Snapshot> {
  const file = join(directory, 'fishery.db');
  if (!existsSync(file)) throw new StoreError('io', `there is no database in ${directory}: look at data_dir`);
  let connection: Database.Database | undefined;
  try {
    connection = new Database(file, { readonly: true, timeout: 2_000 });
    const opened = connection;
    opened.exec('BEGIN');
    refuseOther(standingOf(opened));
    const statements = new Statements(opened);
    return {
      run: async (read) => {
        try {
          return statements.run(read);
        } catch (error) {
          throw storeErrorOf(error);
        }
      },
      damage: async () => {
        try {
          return damageIn(opened, flaws_of_file_max).map((flaw) => `${file} is damaged: ${flaw}`);
        } catch (error) {
          throw storeErrorOf(error);
        }
      },
      [Symbol.asyncDispose]: async () => void opened.close(),
    };
  } catch (error) {
    connection?.close();
    throw storeErrorOf(error);
  }
}

/** Where the database in a directory stands. */
export function standingIn(directory: string): Standing {
  const file = join(directory, 'fishery.db');
  if (!existsSync(file)) return standingOf(undefined);
  let connection: Database.Database | undefined;
  try {
    connection = new Database(file, { readonly: true, timeout: 2_000 });
    return standingOf(connection);
  } catch (error) {
    throw storeErrorOf(error);
  } finally {
    connection?.close();
  }
}
