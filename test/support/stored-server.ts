import { randomBytes } from 'node:crypto';
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { buildApp } from '../../src/api/app.ts';
import { formatSecret, secretBytes } from '../../src/api/bearer.ts';
import { defaultLimits, type Limits } from '../../src/api/parts.ts';
import { openEngine } from '../../src/engine/engine.ts';
import { Feed } from '../../src/feed/feed.ts';
import { SteadyClock } from '../../src/ops/clock.ts';
import { createLogger } from '../../src/ops/logger.ts';
import { FisheryClient } from '../../src/sdk/index.ts';
import type { Tables } from './memory-store.ts';
import { letIn, type LiveServer } from './real-server.ts';
import { readTables } from './stored-tables.ts';

type Serving = Readonly<{ port: number; close: () => Promise<void> }>;
const day_us = 86_400_000_000;

/** The server as it is put together for production, on a database file, which can be backed up and restored. */
export class StoredServer implements LiveServer {
  readonly url: string;
  readonly client: FisheryClient;
  readonly secret: string;
  /** Where its database is. */
  readonly directory: string;
  readonly #limits: Partial<Limits>;
  #serving: Serving;

  private constructor(directory: string, secret: string, limits: Partial<Limits>, serving: Serving) {
    this.directory = directory;
    this.url = `http://127.0.0.1:${serving.port}`;
    this.secret = secret;
    this.client = new FisheryClient({ url: this.url, token: secret });
    this.#limits = limits;
    this.#serving = serving;
  }

  static async start(limits: Partial<Limits> = {}): Promise<StoredServer> {
    const directory = mkdtempSync(join(tmpdir(), 'fishery-stored-'));
    const secret = formatSecret(randomBytes(secretBytes));
    return new StoredServer(directory, secret, limits, await serve(directory, limits, 0, secret));
  }

  /** Read from the file, all of it, at each call. */
  get tables(): Tables {
    return readTables(this.directory).tables;
  }

  /** A copy of the database alone, as it is now, while the server runs. */
  backUp(): string {
    const copy = join(this.directory, 'backup.db');
    const connection = new Database(join(this.directory, 'fishery.db'));
    try {
      connection.exec(`VACUUM INTO '${copy}'`);
    } finally {
      connection.close();
    }
    return copy;
  }

  /** The disk is lost, the copy put in its place, and the server started again where it was. */
  async restore(copy: string): Promise<void> {
    await this.#serving.close();
    for (const suffix of ['-wal', '-shm']) rmSync(join(this.directory, `fishery.db${suffix}`), { force: true });
    copyFileSync(copy, join(this.directory, 'fishery.db'));
    this.#serving = await serve(this.directory, this.#limits, this.#serving.port);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#serving.close();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

async function serve(directory: string, limits: Partial<Limits>, at: number, secret?: string): Promise<Serving> {
  const location = { url: undefined, directory };
  const kept = { eventsKept: 1_000_000, answersKeptUs: day_us, historyKeptUs: day_us, auditKeptUs: day_us };
  const deaf = { onTrouble: () => {}, onSweepFailure: () => {} };
  const { leases, reader, startSweeping, close } = await openEngine({ location, ...kept }, deaf);
  if (secret !== undefined) await letIn(leases, secret);
  const feed = new Feed({ log: reader });
  leases.onEvents((events) => feed.publish(events));
  const app = buildApp({
    ...{ leases, reader, feed, clock: new SteadyClock(), logger: createLogger({ level: 'silent' }) },
    ...{ version: '0.0.0', randomBytes, metricsOpen: true, processMetrics: false },
    limits: { ...defaultLimits, heartbeat_ms: 200, ...limits },
  });
  await startSweeping();
  await app.listen({ host: '127.0.0.1', port: at });
  const { port } = app.server.address() as AddressInfo;
  return {
    port,
    close: async () => {
      await app.close();
      feed.close();
      await close();
    },
  };
}
