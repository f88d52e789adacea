import type { Store } from '../leases/store.ts';

export type StoreLocation = Readonly<{
  /** Of a PostgreSQL database, which any number of servers may share; undefined: SQLite in the directory. */
  url: string | undefined;
  directory: string;
}>;

/** What a table that is made begins with. A database with a clock of its own goes by that. */
export type Origin = Readonly<{
  /** A new identity of the table, random; also for each epoch that begins later. */
  newEpoch: () => string;
  /** Microseconds since 1970. */
  nowUs: () => number;
}>;

/** Whether text is a URL of a PostgreSQL database, and not of anything else. */
export const isPostgresUrl = (url: string): boolean => /^postgres(?:ql)?:\/\/./.test(url) && URL.canParse(url);

/**
 * Opens the store that is named, making or upgrading its tables. Throws a `StoreError` that says what to do. Only the
 * driver that is needed is loaded.
 */
export async function openStore({ url, directory }: StoreLocation, { newEpoch, nowUs }: Origin): Promise<Store> {
  if (url === undefined) return (await import('./sqlite/open.ts')).openSqliteStore({ directory, newEpoch, nowUs });
  return (await import('./postgres/open.ts')).openPostgresStore({ url, newEpoch });
}
