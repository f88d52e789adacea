import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { clientConfig } from './connections.ts';
import { Assembly, relayChannel } from './relay.ts';

/** Notifications are per database; who else uses this one does not use this name. */
const channel = 'fishery_commit';
/** A notification can be lost with its connection, and a connection can be dead without saying so: then this finds out. */
const poll_ms = 1_000;
const reconnect_ms = 500;

/**
 * Hears of the commits of other servers, by LISTEN on a connection of its own and by looking again every second. It only
 * wakes: what was committed, the table says. So nothing is lost with a notification, and none too many does any harm.
 */
export class ForeignCommits {
  readonly channel = channel;
  /** By this a server knows its own notifications; it has no need to be woken by them. */
  readonly ownPayload: string;
  readonly #url: string;
  readonly #wakes = new Set<() => void>();
  readonly #listeners = new Set<(text: string) => void>();
  readonly #stop = new AbortController();
  readonly #poll: NodeJS.Timeout;
  readonly #listening: Promise<void>;
  #client: pg.Client | undefined;

  constructor(url: string, ownPayload: string) {
    this.#url = url;
    this.ownPayload = ownPayload;
    this.#poll = setInterval(() => this.#wake(), poll_ms);
    this.#poll.unref();
    this.#listening = this.#listen();
  }

  onCommit(wake: () => void): () => void {
    this.#wakes.add(wake);
    return () => this.#wakes.delete(wake);
  }

  /** Hears what servers tell one another, itself included, as long as the connection stands. */
  onTold(listener: (text: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async close(): Promise<void> {
    this.#stop.abort();
    clearInterval(this.#poll);
    await this.#client?.end();
    await this.#listening;
  }

  #hear(text: string | undefined): void {
    if (text === undefined) return;
    for (const listener of this.#listeners) listener(text);
  }

  #wake(): void {
    for (const wake of this.#wakes) wake();
  }

  async #listen(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      await this.#listenOnce();
      await sleep(reconnect_ms, undefined, { signal, ref: false }).catch(() => {});
    }
  }

  /** Listens until the connection is gone, for whatever reason. */
  async #listenOnce(): Promise<void> {
    const client = new pg.Client(clientConfig(this.#url));
    const ended = Promise.withResolvers<undefined>();
    client.on('end', () => ended.resolve(undefined));
    // Said again by `end`.
    client.on('error', () => {});
    // What came over a connection that is gone is not completed by another.
    const assembly = new Assembly();
    client.on('notification', ({ channel: heard, payload }) => {
      if (heard === relayChannel) this.#hear(assembly.take(payload ?? ''));
      else if (payload !== this.ownPayload) this.#wake();
    });
    try {
      await client.connect();
      this.#client = client;
      if (this.#stop.signal.aborted) await client.end();
      else {
        await client.query(`LISTEN ${channel}`);
        await client.query(`LISTEN ${relayChannel}`);
        // What was committed while nobody listened.
        this.#wake();
      }
      await ended.promise;
    } catch {
      // The next attempt comes, and until then the poll.
      await client.end().catch(() => {});
    }
    this.#client = undefined;
  }
}
