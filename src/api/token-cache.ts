import type { AccessToken } from '../leases/model.ts';
import { isLiveToken } from '../leases/tokens.ts';
import { hashesEqual } from './bearer.ts';

/** A token, and until when the secret that was shown opens the door: µs since 1970, Infinity for ever. */
export type Credential = Readonly<{ token: AccessToken; validUntil: number }>;
type Entry = Readonly<{ credential: Credential; until: number }>;

export type TokenCacheOptions = Readonly<{
  lookup: (hash: string) => Promise<AccessToken | undefined>;
  nowUs: () => number;
  entries_max: number;
  /** For how long a revocation by another process on the same database may go unnoticed when the word of it is lost. */
  age_us_max: number;
}>;

/**
 * Known tokens by the hash of their secret, so that a request costs no read. What changes is forgotten at once: also a
 * lookup that began before the change and ends after it leaves nothing behind. Unknown hashes are not kept, or whoever
 * sends garbage would push out what is useful.
 */
export class TokenCache {
  readonly #options: TokenCacheOptions;
  /** In the order of their last use, the least recently used first. */
  readonly #entries = new Map<string, Entry>();
  /** Under way: however many requests come with a token at once, it is looked up once. */
  readonly #lookups = new Map<string, Promise<Credential | undefined>>();
  #changes = 0;

  constructor(options: TokenCacheOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** Whether the hash was somebody's not long ago, be it live or not, or is just being looked up for another request. */
  knows(hash: string): boolean {
    return this.#entries.has(hash) || this.#lookups.has(hash);
  }

  /** The live token with this hash. */
  async find(hash: string): Promise<Credential | undefined> {
    const { nowUs } = this.#options;
    const known = this.#entries.get(hash);
    if (known !== undefined && known.until > nowUs()) {
      this.#entries.delete(hash);
      this.#entries.set(hash, known);
      return known.credential.validUntil > nowUs() ? known.credential : undefined;
    }
    const underWay = this.#lookups.get(hash);
    if (underWay !== undefined) return underWay;
    const lookup = this.#lookUp(hash);
    this.#lookups.set(hash, lookup);
    try {
      return await lookup;
    } finally {
      if (this.#lookups.get(hash) === lookup) this.#lookups.delete(hash);
    }
  }

  /** To be called when something of the token has changed, durably. */
  forget(id: number): void {
    this.#changes++;
    // They may have read the token as it was; who comes from here on must not go by that.
    this.#lookups.clear();
    for (const [hash, { credential }] of this.#entries) if (credential.token.id === id) this.#entries.delete(hash);
  }

  async #lookUp(hash: string): Promise<Credential | undefined> {
    const { nowUs, lookup } = this.#options;
    const before = this.#changes;
    const token = await lookup(hash);
    const validUntil = token === undefined ? 0 : validUntilOf(token, hash, nowUs());
    if (token === undefined || validUntil <= nowUs()) {
      this.#entries.delete(hash);
      return undefined;
    }
    const credential = { token, validUntil };
    if (before === this.#changes) this.#keep(hash, credential);
    return credential;
  }

  #keep(hash: string, credential: Credential): void {
    this.#entries.delete(hash);
    this.#entries.set(hash, { credential, until: this.#options.nowUs() + this.#options.age_us_max });
    if (this.#entries.size <= this.#options.entries_max) return;
    const [oldest] = this.#entries.keys();
    if (oldest !== undefined) this.#entries.delete(oldest);
  }
}

/** Until when the secret with this hash is the token's; 0 when it is not. */
function validUntilOf(token: AccessToken, hash: string, nowUs: number): number {
  if (!isLiveToken(token, nowUs)) return 0;
  const end = token.expiresAt ?? Infinity;
  if (hashesEqual(token.hash, hash)) return end;
  const isFormer = token.formerHash !== null && hashesEqual(token.formerHash, hash);
  return isFormer ? Math.min(end, token.formerUntil ?? 0) : 0;
}
