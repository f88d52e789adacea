import pg from 'pg';
import { inject } from 'vitest';
import { openPostgresStore, type PostgresOptions } from '../../../src/db/postgres/open.ts';
import type { Store } from '../../../src/leases/store.ts';

let count = 0;

/** Runs one statement as the superuser, on the run's own server. */
export async function asSuperuser(
  sql: string,
  url = inject('postgresUrl'),
): Promise<readonly Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>(sql)).rows;
  } finally {
    await client.end();
  }
}

/** An empty database of its own that is gone afterwards, and stores on it: `await using database = await temporaryDatabase()`. */
export async function temporaryDatabase(): Promise<TemporaryDatabase> {
  const name = `fishery_${process.pid}_${++count}`;
  await asSuperuser(`CREATE DATABASE ${name}`);
  const url = new URL(inject('postgresUrl'));
  url.pathname = `/${name}`;
  return new TemporaryDatabase(name, url.href);
}

export class TemporaryDatabase implements AsyncDisposable {
  readonly name: string;
  readonly url: string;
  readonly #stores: Store[] = [];

  constructor(name: string, url: string) {
    this.name = name;
    this.url = url;
  }

  /** One more server's store on the database. */
  async open(options: Partial<PostgresOptions> = {}): Promise<Store> {
    const store = await openPostgresStore({ url: this.url, newEpoch: () => 'epoch-1', ...options });
    this.#stores.push(store);
    return store;
  }

  query(sql: string): Promise<readonly Record<string, unknown>[]> {
    return asSuperuser(sql, this.url);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#stores.map((store) => store.close()));
    await asSuperuser(`DROP DATABASE ${this.name} WITH (FORCE)`);
  }
}
