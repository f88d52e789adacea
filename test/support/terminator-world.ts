import type { Socket } from 'node:net';
import type { connect } from '../../src/sdk/connect.ts';
import { ConnectError, type ConnectFailure, type ConnectOptions } from '../../src/sdk/connect.ts';
import { ConnectionMemory, memoryBytes } from '../../src/terminate/connection-memory.ts';
import type { TerminateSettings, UsableLease } from '../../src/terminate/protocol.ts';
import { reset } from '../../src/terminate/sockets.ts';
import { Terminator } from '../../src/terminate/terminator.ts';
import { tcpPair, type TcpPair } from './tcp-pair.ts';

export const terminateSettings: TerminateSettings = {
  paths: { rules: [], otherwise: 'terminate' },
  ...{ connections_max: 100, connections_per_client_max: 50 },
  ...{ connect_timeout_s: 20, idle_timeout_s: 600, half_closed_timeout_s: 600 },
  ...{ on_unreachable: 'reset', flow_log_max: 100, destinations_max: 10 },
};

export const usableLease = (id: string, address = '198.51.100.10'): UsableLease => ({
  ...{ id, address, protocol: 'tcp', state: 'active', binding: 'late' },
  ports: { first: 9_000, last: 9_009 },
});

/** An attempt to reach an origin, and what its end is to be. */
export type Attempt = Readonly<{
  asked: ConnectOptions;
  /** The kernel has taken a port. */
  begins(port: number): void;
  answers(): Promise<TcpPair>;
  fails(failure: ConnectFailure): void;
}>;

/** Where a client is, and where it meant to go. */
export type Meant = Readonly<{ client?: string; to?: string; port?: number }>;

/** A terminator whose clients are real sockets of this host, and whose origins answer when a test says so. */
export class TerminatorWorld {
  readonly terminator: Terminator;
  readonly attempts: Attempt[] = [];
  /** When the latest attempt got its port (µs since 1970). */
  begunAt = 0;
  readonly #pairs: TcpPair[] = [];

  constructor(settings: Partial<TerminateSettings> = {}, leases: readonly UsableLease[] = [usableLease('lease-1')]) {
    const sizes = { lasting: 100, ended: 100 };
    const memory = new ConnectionMemory(new ArrayBuffer(memoryBytes(sizes)), sizes, 0);
    const all = { ...terminateSettings, ...settings };
    this.terminator = new Terminator(all, 7_490, memory, (asked) => this.#attempt(asked));
    this.terminator.configure(all, leases);
  }

  /** A client connects, as the kernel leads it here. */
  async client(meant: Meant = {}): Promise<TcpPair> {
    const pair = await tcpPair();
    this.#pairs.push(pair);
    const { client = '100.64.0.2', to = '203.0.113.1', port = 443 } = meant;
    for (const [name, value] of Object.entries({ remoteAddress: client, localAddress: to, localPort: port }))
      Object.defineProperty(pair.near, name, { value });
    this.terminator.accept(pair.near);
    return pair;
  }

  /** The same, and its origin has answered. */
  async connected(meant: Meant = {}): Promise<Readonly<{ client: TcpPair; origin: TcpPair }>> {
    const client = await this.client(meant);
    const attempt = this.attempts.at(-1)!;
    attempt.begins(9_000 + this.attempts.length);
    const origin = await attempt.answers();
    // It goes on when the promise of the attempt has resolved.
    await new Promise(setImmediate);
    return { client, origin };
  }

  stats(): ReturnType<Terminator['stats']> {
    return this.terminator.stats(10);
  }

  close(): void {
    for (const { near, far } of this.#pairs) for (const each of [near, far]) reset(each);
  }

  /** As `connect()` of the SDK. */
  #attempt(asked: ConnectOptions): ReturnType<typeof connect> {
    const { promise, resolve, reject } = Promise.withResolvers<Socket>();
    asked.signal?.addEventListener('abort', () => reject(asked.signal?.reason as Error), { once: true });
    if (asked.signal?.aborted) reject(asked.signal.reason as Error);
    this.attempts.push({
      asked,
      begins: (port) => {
        asked.onAttempt?.(port);
        this.begunAt = Date.now() * 1_000;
      },
      answers: async () => {
        const pair = await tcpPair();
        this.#pairs.push(pair);
        resolve(pair.near);
        return pair;
      },
      fails: (failure) => reject(new ConnectError(failure, `it is ${failure}`)),
    });
    return promise;
  }
}
