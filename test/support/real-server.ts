import { randomBytes } from 'node:crypto';
import type { AddressInfo } from 'node:net';
import { buildApp } from '../../src/api/app.ts';
import { formatSecret, hashSecret, secretBytes } from '../../src/api/bearer.ts';
import { defaultLimits, type Limits } from '../../src/api/parts.ts';
import { Feed } from '../../src/feed/feed.ts';
import { LeaseService } from '../../src/leases/lease-service.ts';
import { Sweeper } from '../../src/leases/sweeper.ts';
import { SteadyClock } from '../../src/ops/clock.ts';
import { createLogger } from '../../src/ops/logger.ts';
import { FisheryClient } from '../../src/sdk/index.ts';
import { MemoryStore, type Tables } from './memory-store.ts';

/** A server at work, and what it has, for a judge who does not ask it. */
export type LiveServer = AsyncDisposable &
  Readonly<{
    url: string;
    /** Of an operator. */
    client: FisheryClient;
    /** The operator's token. */
    secret: string;
    tables: Tables;
  }>;

/** The server as it really is, but for its store, on a port of the loopback: for tests of what talks to it. */
export class RealServer implements LiveServer {
  readonly url: string;
  readonly client: FisheryClient;
  readonly secret: string;
  readonly store: MemoryStore;
  readonly #limits: Partial<Limits>;
  readonly #port: number;
  #close: () => Promise<void>;

  private constructor(
    port: number,
    secret: string,
    store: MemoryStore,
    limits: Partial<Limits>,
    close: () => Promise<void>,
  ) {
    this.url = `http://127.0.0.1:${port}`;
    this.secret = secret;
    this.store = store;
    this.client = new FisheryClient({ url: this.url, token: secret });
    this.#port = port;
    this.#limits = limits;
    this.#close = close;
  }

  get tables(): Tables {
    return this.store.tables;
  }

  static async start(limits: Partial<Limits> = {}): Promise<RealServer> {
    const store = new MemoryStore();
    const secret = formatSecret(randomBytes(secretBytes));
    const { port, close } = await serve(store, limits, 0, (service) => letIn(service, secret));
    return new RealServer(port, secret, store, limits, close);
  }

  /** Stops, stays away for as long as `meanwhile` takes, and begins again at the same place with what it had stored. */
  async restart(meanwhile: () => Promise<void> = async () => {}): Promise<void> {
    await this.#close();
    await meanwhile();
    ({ close: this.#close } = await serve(this.store, this.#limits, this.#port));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#close();
  }
}

/** The operator's token. */
export async function letIn(service: Pick<LeaseService, 'execute'>, secret: string): Promise<void> {
  await service.execute({
    ...{ kind: 'createToken', name: 'operator', role: 'operator', machine: null, holder: null },
    hash: hashSecret(secret),
  });
}

async function serve(
  store: MemoryStore,
  limits: Partial<Limits>,
  at: number,
  first: (service: LeaseService) => Promise<void> = async () => {},
): Promise<Readonly<{ port: number; close: () => Promise<void> }>> {
  const clock = new SteadyClock();
  const service = new LeaseService({ store, clock });
  const feed = new Feed({ log: store.reader });
  service.onEvents((events) => feed.publish(events));
  await first(service);
  const app = buildApp({
    ...{ leases: service, reader: store.reader, feed, clock, logger: createLogger({ level: 'silent' }) },
    ...{ version: '0.0.0', randomBytes, metricsOpen: true, processMetrics: false },
    limits: { ...defaultLimits, heartbeat_ms: 200, ...limits },
  });
  const sweeper = new Sweeper({ execute: (command) => service.execute(command), store, clock, pauseMs: 50 });
  sweeper.start();
  await app.listen({ host: '127.0.0.1', port: at });
  const { port } = app.server.address() as AddressInfo;
  const close = async () => {
    await sweeper.stop();
    await app.close();
    await service.close();
  };
  return { port, close };
}
