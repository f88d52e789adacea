import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { StoreError, type Store } from '../../leases/store.ts';
import { firstEpoch } from '../first-epoch.ts';
import { clientConfig, connectionLimits, openPool } from './connections.ts';
import { namingDatabase } from './errors.ts';
import { ForeignCommits } from './foreign-commits.ts';
import type { Standing } from '../migration-steps.ts';
import { migrate, standingOf } from './migrations.ts';
import { PostgresStore } from './store.ts';
import { clockExpression, clusterExpression } from './transaction.ts';

export type PostgresOptions = Readonly<{
  /** `postgres://user:password@host:port/database`, with the parameters that libpq knows. */
  url: string;
  /** A new identity of the table, random: for when the tables are made, and for each epoch that begins later. */
  newEpoch: () => string;
  /**
   * Whose clock decides. Servers that share a database go by the database's, or they would disagree about what is over.
   * `server`: that of whoever calls; for simulations and tests, which move the time.
   */
  clock?: 'database' | 'server';
}>;

/** The oldest release that the PostgreSQL project supports, as `server_version_num` counts. */
const versionMin = 140_000;

/**
 * Opens the store in a database, making or upgrading its tables. Any number of servers may do so at once. Throws
 * `StoreError` that says what to do.
 */
export async function openPostgresStore({ url, newEpoch, clock = 'database' }: PostgresOptions): Promise<Store> {
  await withClient(url, (client) => prepare(client, newEpoch()));
  return new PostgresStore({
    readers: openPool(url, connectionLimits.readers_max),
    writers: openPool(url, connectionLimits.writers_max),
    foreign: new ForeignCommits(url, randomUUID()),
    clock,
    newEpoch,
    connect: () => new pg.Client(clientConfig(url)),
  });
}

/** Where the tables of a database stand. */
export const standingOfDatabase = (url: string): Promise<Standing> => withClient(url, (client) => standingOf(client));

/** Makes sure of the server, of the tables, and of the rows that each database begins with. */
export async function prepare(client: pg.Client, epoch: string): Promise<void> {
  await inspect(client);
  await migrate(client);
  await identify(client, epoch);
}

/** One connection for what comes before the store is open; failures name the database and never the password. */
async function withClient<T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  let client: pg.Client | undefined;
  try {
    client = new pg.Client(clientConfig(url));
    // Said by the statement that fails.
    client.on('error', () => {});
    await client.connect();
    return await work(client);
  } catch (error) {
    throw namingDatabase(url, error);
  } finally {
    await client?.end().catch(() => {});
  }
}

async function inspect(client: pg.Client): Promise<void> {
  const { rows } = await client.query<Server>(
    `SELECT current_setting('server_version_num')::int4 AS number, current_setting('server_version') AS version,
     current_setting('server_encoding') AS encoding, pg_is_in_recovery() AS standby`,
  );
  const problem = rows[0] && problemOf(rows[0]);
  if (problem) throw problem;
}

export type Server = Readonly<{ number: number; version: string; encoding: string; standby: boolean }>;

/** Why this database server cannot be used; undefined when it can. */
export function problemOf({ number, version, encoding, standby }: Server): StoreError | undefined {
  if (number < versionMin)
    return new StoreError('io', `PostgreSQL ${version} is too old: ${versionMin / 10_000} or newer is needed`);
  if (encoding !== 'UTF8')
    return new StoreError('io', `the database's encoding is ${encoding}: create it with ENCODING 'UTF8'`);
  if (standby) return new StoreError('read_only', 'this is a standby, which takes no writes: name the primary');
  return undefined;
}

/** The rows that each database begins with. A copy of one that nothing was ever written to is a new one. */
async function identify(client: pg.Client, epoch: string): Promise<void> {
  // Both rows tell of one instant.
  const { rows } = await client.query<{ now: number }>(`SELECT ${clockExpression} AS now`);
  const { cause, detail, confirmedAt } = firstEpoch(epoch, rows[0]?.now ?? 0);
  await client.query(
    `INSERT INTO epochs (number, id, cause, detail, after_revision, from_revision, began_at, confirmed_at, revision)
     VALUES (1, $1 || '.' || ${clusterExpression}, $2, $3, 0, 1, $4, $4, 0) ON CONFLICT DO NOTHING`,
    [epoch, cause, detail, confirmedAt],
  );
  await client.query(
    `INSERT INTO log_end ("only", revision, last_event_at, allocator_epoch, confirmed_at, cluster)
     SELECT 1, 0, 0, 1, confirmed_at, ${clusterExpression} FROM epochs WHERE number = 1 ON CONFLICT ("only") DO NOTHING`,
  );
  await client.query(
    `WITH copied AS (
       UPDATE log_end SET cluster = ${clusterExpression} WHERE revision = 0 AND cluster <> ${clusterExpression} RETURNING 1)
     UPDATE epochs SET id = $1 || '.' || ${clusterExpression} WHERE number = 1 AND EXISTS (SELECT 1 FROM copied)`,
    [epoch],
  );
}
