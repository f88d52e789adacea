import type { AccessToken } from '../leases/model.ts';
import { hashesEqual } from './bearer.ts';

type Entry = Readonly<{ token: AccessToken; until: number }>;

export type TokenCacheOptions = Readonly<{
  lookup: (hash: string) => Promise<AccessToken | undefined>;
  nowUs: () => number;
  entries_max: number;
  /** For how long a revocation by another process on the same database may go unnoticed. */
  age_us_max: number;
}>;

/**
 * Known tokens by hash, so that a request costs no read. What this process revokes is forgotten at once: also a lookup
 * that began before the revocation and ends after it leaves nothing behind. Unknown hashes are not kept, or whoever sends
 * garbage would push out what is useful.
 */
export class TokenCache {
  readonly #options: TokenCacheOptions;
  /** In the order of their last use, the least recently used first. */
  readonly #entries = new Map<string, Entry>();
  #revocations = 0;

  constructor(options: TokenCacheOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** The live token with this hash. */
  async find(hash: string): Promise<AccessToken | undefined> {
    const known = this.#entries.get(hash);
    if (known !== undefined) {
      this.#entries.delete(hash);
      if (known.until > this.#options.nowUs()) {
        this.#entries.set(hash, known);
        return known.token;
      }
    }
    const before = this.#revocations;
    const token = await this.#options.lookup(hash);
    if (token === undefined || token.revokedAt !== null || !hashesEqual(token.hash, hash)) return undefined;
    if (before === this.#revocations) this.#keep(hash, token);
    return token;
  }

  /** To be called after a revocation is durable. */
  forget(id: number): void {
    this.#revocations++;
    for (const [hash, { token }] of this.#entries) if (token.id === id) this.#entries.delete(hash);
  }

  #keep(hash: string, token: AccessToken): void {
    this.#entries.set(hash, { token, until: this.#options.nowUs() + this.#options.age_us_max });
    if (this.#entries.size <= this.#options.entries_max) return;
    const [oldest] = this.#entries.keys();
    if (oldest !== undefined) this.#entries.delete(oldest);
  }
}
