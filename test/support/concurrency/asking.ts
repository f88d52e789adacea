import { setTimeout as sleep } from 'node:timers/promises';
import { FisheryClient, FisheryError } from '../../../src/sdk/index.ts';
import type { Ledger, Span } from './ledger.ts';

/** What one user of the API has: a token, and the addresses of all servers. */
export class Asker {
  readonly #clients: readonly FisheryClient[];
  readonly #ledger: Ledger;
  readonly #random: () => number;

  constructor(urls: readonly string[], token: string, ledger: Ledger, random: () => number) {
    // Each call is one attempt: whom to ask next, and whether, is decided here.
    this.#clients = urls.map((url) => new FisheryClient({ url, token, attemptsMax: 1, timeoutMs: 20_000 }));
    this.#ledger = ledger;
    this.#random = random;
  }

  /** Any server's client. */
  one(): FisheryClient {
    const client = this.#clients[Math.floor(this.#random() * this.#clients.length)];
    if (!client) throw new Error('no servers');
    return client;
  }

  /**
   * Asks any server, and when that one dies over it any other, under the same key: carried out once, however often it is
   * asked. Undefined when it was refused, or when nobody answered in the end.
   */
  async ask<T>(
    call: (client: FisheryClient, key: string) => Promise<T>,
  ): Promise<(Readonly<{ value: T }> & Span) | undefined> {
    const key = crypto.randomUUID();
    const sentMs = this.#ledger.now();
    const attempts_max = 60;
    for (let attempt = 0; attempt < attempts_max; attempt++) {
      try {
        const value = await call(this.one(), key);
        return { value, sentMs, answeredMs: this.#ledger.now() };
      } catch (error) {
        if (!(error instanceof FisheryError)) throw error;
        this.#ledger.note(error.code);
        if (!error.retryable) return undefined;
        await sleep(Math.min(error.retryAfterMs ?? 0, 500) + 20 + this.#random() * 100);
      }
    }
    this.#ledger.unknown++;
    return undefined;
  }
}
