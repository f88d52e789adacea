import type { Standing } from './migration-steps.ts';
import { openStore, type Origin, type StoreLocation } from './open.ts';
import { lightly } from './light-import.ts';

/** Where the database stands, looked at without changing anything; one that is not there yet is at the beginning. */
export async function standingAt({ url, directory }: StoreLocation): Promise<Standing> {
  if (url === undefined) return (await lightly(() => import('./sqlite/snapshot.ts'))).standingIn(directory);
  return (await lightly(() => import('./postgres/open.ts'))).standingOfDatabase(url);
}

/** Brings the database up to date, making it when missing, as a server would at its start. */
export async function migrateStore(location: StoreLocation, origin: Origin): Promise<void> {
  const store = await openStore(location, origin);
  await store.close();
}
