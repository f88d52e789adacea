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
import { MemoryStore } from './memory-store.ts';

/** The server as it really is, but for its store, on a port of the loopback: for tests of what talks to it. */
export class RealServer implements AsyncDisposable {
  readonly url: string;
  /** Of an operator. */
  readonly client: FisheryClient;
  /** The operator's token. */
  readonly secret: string;
  /** What it has, for a judge who does not ask it. */
  readonly store: MemoryStore;
  readonly #close: () => Promise<void>;

  private constructor(url: string, secret: string, store: MemoryStore, close: () => Promise<void>) {
    this.url = url;
    this.secret = secret;
    this.store = store;
    this.client = new FisheryClient({ url, token: secret });
    this.#close = close;
  }

  static async start(limits: Partial<Limits> = {}): Promise<RealServer> {
    const store = new MemoryStore();
    const clock = new SteadyClock();
    const service = new LeaseService({ store, clock });
    const feed = new Feed({ log: store.reader });
    service.onEvents((events) => feed.publish(events));
    const secret = formatSecret(randomBytes(secretBytes));
    await service.execute({
      ...{ kind: 'createToken', name: 'operator', role: 'operator', machine: null, holder: null },
      hash: hashSecret(secret),
    });
    const app = buildApp({
      ...{ leases: service, reader: store.reader, feed, clock, logger: createLogger({ level: 'silent' }) },
      ...{ version: '0.0.0', randomBytes, metricsOpen: true, processMetrics: false },
      limits: { ...defaultLimits, heartbeat_ms: 200, ...limits },
    });
    const sweeper = new Sweeper({ execute: (command) => service.execute(command), store, clock, pauseMs: 50 });
    sweeper.start();
    await app.listen({ host: '127.0.0.1', port: 0 });
    const { port } = app.server.address() as AddressInfo;
    return new RealServer(`http://127.0.0.1:${port}`, secret, store, async () => {
      await sweeper.stop();
      await app.close();
      await service.close();
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#close();
  }
}
