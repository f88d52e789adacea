import type { Store } from '../leases/store.ts';
import { isPostgresUrl } from './postgres/connections.ts';
import { openPostgresStore } from './postgres/open.ts';
import { openSqliteStore } from './sqlite/open.ts';

export type StoreLocation = Readonly<{
  /** Of a PostgreSQL database, which any number of servers may share; undefined: SQLite in the directory. */
  url: string | undefined;
  directory: string;
}>;

/** Opens the store that is named, making or upgrading its tables. Throws a `StoreError` that says what to do. */
export function openStore({ url, directory }: StoreLocation, newEpoch: () => string): Promise<Store> {
  return url === undefined ? openSqliteStore({ directory, newEpoch }) : openPostgresStore({ url, newEpoch });
}

export { isPostgresUrl };
