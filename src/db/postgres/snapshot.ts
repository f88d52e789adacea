import pg from 'pg';
import { refuseOther } from '../migration-steps.ts';
import type { Snapshot } from '../snapshot.ts';
import { clientConfig } from './connections.ts';
import { namingDatabase } from './errors.ts';
import { standingOf } from './migrations.ts';
import { beginSnapshot, readOn } from './reads.ts';

/** The database as it is now; a standby will do. */
export async function openPostgresSnapshot(url: string): Promise<Snapshot> {
  const client = new pg.Client(clientConfig(url));
  // Said by the statement that fails.
  client.on('error', () => {});
  try {
    await client.connect();
    await client.query(beginSnapshot);
    refuseOther(await standingOf(client));
    return {
      run: async (read) => {
        try {
          return await readOn(client, read);
        } catch (error) {
          throw namingDatabase(url, error);
        }
      },
      damage: async () => [],
      [Symbol.asyncDispose]: () => client.end(),
    };
  } catch (error) {
    await client.end().catch(() => {});
    throw namingDatabase(url, error);
  }
}
