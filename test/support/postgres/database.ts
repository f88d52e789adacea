import pg from 'pg';
import { inject } from 'vitest';
import { openPostgresStore, type PostgresOptions } from '../../../src/db/postgres/open.ts';
import type { AnyRow } from '../../../src/db/statement.ts';
import type { Store } from '../../../src/leases/store.ts';
import { templateName } from './global-setup.ts';
import { readPostgresTables, type Stored } from '../stored-tables.ts';

let count = 0;

/** Runs one statement on a connection of its own; by default as the superuser of the run's own server. */
export async function onPostgres(sql: string, url = inject('postgresUrl')): Promise<readonly AnyRow[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query<AnyRow>(sql)).rows;
  } finally {
    await client.end();
  }
}

/** The URL of the run's own server with parts of it changed. */
export function urlWith(
  change: Readonly<{ host?: string; port?: string; database?: string; user?: string; password?: string }>,
): string {
  const url = new URL(inject('postgresUrl'));
  if (change.host !== undefined) url.hostname = change.host;
  if (change.database !== undefined) url.pathname = `/${change.database}`;
  if (change.user !== undefined) url.username = change.user;
  if (change.password !== undefined) url.password = change.password;
  if (change.port !== undefined) url.port = change.port;
  return url.href;
}

/**
 * A database of its own that is gone afterwards, and stores on it: `await using database = await temporaryDatabase()`. The
 * tables are there already, unless it is made in another way.
 */
export async function temporaryDatabase(options = `TEMPLATE ${templateName}`): Promise<TemporaryDatabase> {
  const name = `fishery_${process.pid}_${++count}`;
  await onPostgres(`CREATE DATABASE ${name} ${options}`);
  return new TemporaryDatabase(name);
}

export class TemporaryDatabase implements AsyncDisposable {
  readonly name: string;
  readonly url: string;
  readonly #stores: Store[] = [];

  constructor(name: string) {
    this.name = name;
    this.url = urlWith({ database: name });
  }

  /** One more server's store on the database. */
  async open(options: Partial<PostgresOptions> = {}): Promise<Store> {
    const store = await openPostgresStore({ url: this.url, newEpoch: () => 'epoch-1', ...options });
    this.#stores.push(store);
    return store;
  }

  query(sql: string): Promise<readonly AnyRow[]> {
    return onPostgres(sql, this.url);
  }

  /** Ends every connection to the database but the one that does it. */
  async cutConnections(): Promise<void> {
    await this.query(
      'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()',
    );
  }

  /** Takes everything out again: quicker than another database. */
  async clear(): Promise<void> {
    const tables = [
      'sessions',
      'holders',
      'tenures',
      'slices',
      'leases',
      'extents',
      'shared_blocks',
      'pools',
      'machines',
    ];
    const more = ['access_tokens', 'routers', 'events', 'port_counts', 'held_ports', 'history', 'audit'];
    const reported = ['brokers', 'reported_sessions', 'reported_leases', 'revocations'];
    const all = [...tables, ...more, ...reported].map((table) => `DELETE FROM ${table}`);
    await this.query(
      `${all.join('; ')}; DELETE FROM epochs WHERE number > 1;
      UPDATE log_end SET revision = 0, last_event_at = 0, allocator_epoch = 1,
        confirmed_at = (SELECT confirmed_at FROM epochs WHERE number = 1)`,
    );
  }

  read(): Promise<Stored> {
    return readPostgresTables((sql) => this.query(sql));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#stores.map((store) => store.close()));
    await onPostgres(`DROP DATABASE ${this.name} WITH (FORCE)`);
  }
}
