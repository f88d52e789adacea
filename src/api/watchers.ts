import type { Role, TokenQuota } from '../leases/model.ts';
import type { Credential } from './token-cache.ts';

/** Whose stream it is: the token, the secret that opened it, and how long that is good for. */
export type Watcher = Readonly<{
  token: number;
  role: Role;
  quota: Pick<TokenQuota, 'watchersMax'>;
  secretHash: string;
  validUntil: number;
}>;

type Open = Pick<Watcher, 'token' | 'secretHash' | 'validUntil'> & { timer: NodeJS.Timeout | undefined };

export type WatchersOptions = Readonly<{
  watchers_max: number;
  watchers_per_bound_token_max: number;
  watchers_per_token_max: number;
  nowUs: () => number;
}>;

/** The longest that a timer can wait. */
const timer_ms_max = 2_147_483_647;

/**
 * Every open event stream, so that they can be counted, bounded, and ended: all of them at a shutdown, and each as soon as
 * the secret that opened it is no longer good, because it was revoked, replaced, or has run out.
 */
export class Watchers {
  readonly #options: WatchersOptions;
  readonly #open = new Map<AbortController, Open>();
  readonly #perToken = new Map<number, number>();

  constructor(options: WatchersOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#open.size;
  }

  /** How many streams the token has open. */
  countOf(token: number): number {
    return this.#perToken.get(token) ?? 0;
  }

  /** How many streams the token may have open at once. */
  maxOf({ role, quota }: Pick<Watcher, 'role' | 'quota'>): number {
    const { watchers_per_bound_token_max: bound, watchers_per_token_max: free } = this.#options;
    return quota.watchersMax ?? (role === 'operator' || role === 'viewer' ? free : bound);
  }

  /** Undefined when there are as many as there may be, of the token or of all. Call `close` when the stream is over. */
  open(watcher: Watcher): Readonly<{ signal: AbortSignal; end: () => void; close: () => void }> | undefined {
    const { token, secretHash, validUntil } = watcher;
    if (this.#open.size >= this.#options.watchers_max || this.countOf(token) >= this.maxOf(watcher)) return undefined;
    const controller = new AbortController();
    const open: Open = { token, secretHash, validUntil, timer: undefined };
    this.#open.set(controller, open);
    this.#perToken.set(open.token, this.countOf(open.token) + 1);
    this.#endInTime(controller, open, open.validUntil);
    return {
      signal: controller.signal,
      end: () => controller.abort(),
      close: () => {
        clearTimeout(open.timer);
        if (this.#open.delete(controller)) this.#countDown(open.token);
        controller.abort();
      },
    };
  }

  /**
   * Asks again whether the secrets that opened streams are good, of one token or of all, and ends the streams whose secret is
   * not. One that cannot be asked about is left to the next time.
   */
  async recheck(find: (secretHash: string) => Promise<Credential | undefined>, token?: number): Promise<void> {
    for (const [controller, open] of [...this.#open]) {
      if (token !== undefined && open.token !== token) continue;
      const credential = await find(open.secretHash);
      if (credential === undefined) controller.abort();
      else if (this.#open.has(controller)) this.#endInTime(controller, open, credential.validUntil);
    }
  }

  endOf(token: number): void {
    for (const [controller, watcher] of this.#open) if (watcher.token === token) controller.abort();
  }

  endAll(): void {
    for (const controller of this.#open.keys()) controller.abort();
  }

  #endInTime(controller: AbortController, open: Open, validUntil: number): void {
    clearTimeout(open.timer);
    if (validUntil === Infinity) return;
    const ms = Math.max(0, Math.ceil((validUntil - this.#options.nowUs()) / 1_000));
    open.timer = setTimeout(
      () => (ms <= timer_ms_max ? controller.abort() : this.#endInTime(controller, open, validUntil)),
      Math.min(ms, timer_ms_max),
    );
    open.timer.unref();
  }

  #countDown(token: number): void {
    const left = this.countOf(token) - 1;
    if (left > 0) this.#perToken.set(token, left);
    else this.#perToken.delete(token);
  }
}
