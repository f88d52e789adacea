import type { Store } from '../leases/store.ts';

export type StoreLocation = Readonly<{
  /** Of a PostgreSQL database, which any number of servers may share; undefined: SQLite in the directory. */
  url: string | undefined;
  directory: string;
}>;

/** Whether text is a URL of a PostgreSQL database, and not of anything else. */
export const isPostgresUrl = (url: string): boolean => /^postgres(?:ql)?:\/\/./.test(url) && URL.canParse(url);

/**
 * Opens the store that is named, making or upgrading its tables. Throws a `StoreError` that says what to do. Only the
 * driver that is needed is loaded.
 */
export async function openStore({ url, directory }: StoreLocation, newEpoch: () => string): Promise<Store> {
  if (url === undefined) return (await import('./sqlite/open.ts')).openSqliteStore({ directory, newEpoch });
  return (await import('./postgres/open.ts')).openPostgresStore({ url, newEpoch });
}
