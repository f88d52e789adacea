import type { Store } from '../leases/store.ts';
import type { Beginning } from './first-epoch.ts';
import { lightly } from './light-import.ts';

export type StoreLocation = Readonly<{
  /** Of a PostgreSQL database, which any number of servers may share; undefined: SQLite in the directory. */
  url: string | undefined;
  directory: string;
  /**
   * For SQLite: a table that is made begins its log at the microsecond of the clock, and counts its epochs in seconds. No
   * table that it takes the place of can have come so far, so what that gave out means nothing here.
   */
  beginsByClock?: boolean;
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
export async function openStore(location: StoreLocation, { newEpoch, nowUs }: Origin): Promise<Store> {
  const { url, directory, beginsByClock = false } = location;
  if (url === undefined) {
    const { openSqliteStore } = await lightly(() => import('./sqlite/open.ts'));
    const beginning = (now: number): Beginning => ({ epoch: Math.floor(now / 1e6), revision: now + 1 });
    return openSqliteStore({ directory, newEpoch, nowUs, ...(beginsByClock && { beginning }) });
  }
  return (await lightly(() => import('./postgres/open.ts'))).openPostgresStore({ url, newEpoch });
}
