import { isIPv6 } from 'node:net';
import type { OperationId } from './access.ts';
import type { Principal } from './principal.ts';

/** Requests a second in the long run, and how many may come at once after a while without any. */
export type Rate = Readonly<{ perS: number; burst: number }>;

/** What became of one request, and where its caller stands: as the RateLimit header fields tell it. */
export type Verdict = Readonly<{
  isAllowed: boolean;
  rate: Rate;
  /** How many more may come now. */
  remaining: number;
  /** Until the next one may come, and until as many may come as after a long rest. */
  nextInS: number;
  fullInS: number;
}>;

/**
 * The generic cell rate algorithm: for each key one instant, at which all that came is paid off. A key that is forgotten is
 * one that has paid, so the oldest can be let go when there are too many.
 */
export class Buckets<Key> {
  readonly #nowUs: () => number;
  readonly #keysMax: number;
  readonly #paidAt = new Map<Key, number>();

  constructor(options: Readonly<{ nowUs: () => number; keys_max: number }>) {
    this.#nowUs = options.nowUs;
    this.#keysMax = options.keys_max;
  }

  get size(): number {
    return this.#paidAt.size;
  }

  take(key: Key, rate: Rate): Verdict {
    const now = this.#nowUs();
    const eachUs = 1_000_000 / rate.perS;
    const toleranceUs = eachUs * rate.burst;
    const owedUs = Math.max(0, (this.#paidAt.get(key) ?? now) - now);
    const isAllowed = owedUs + eachUs <= toleranceUs + 1;
    const afterUs = isAllowed ? owedUs + eachUs : owedUs;
    if (isAllowed) this.#put(key, now + afterUs);
    return {
      isAllowed,
      rate,
      remaining: Math.max(0, Math.floor((toleranceUs - afterUs + 1) / eachUs)),
      nextInS: Math.max(0, afterUs + eachUs - toleranceUs) / 1e6,
      fullInS: afterUs / 1e6,
    };
  }

  /** Takes one back that proved not to count. */
  giveBack(key: Key, rate: Rate): void {
    const paidAt = this.#paidAt.get(key);
    if (paidAt !== undefined) this.#put(key, paidAt - 1_000_000 / rate.perS);
  }

  #put(key: Key, paidAt: number): void {
    this.#paidAt.delete(key);
    this.#paidAt.set(key, paidAt);
    if (this.#paidAt.size <= this.#keysMax) return;
    const [oldest] = this.#paidAt.keys();
    if (oldest !== undefined) this.#paidAt.delete(oldest);
  }
}

/** What keeps a machine or a session alive, and what an agent must be able to say whatever else its token is used for. */
const vital: ReadonlySet<OperationId> = new Set([
  'keepMachine',
  'keepSession',
  'reportApplied',
  'reportGranted',
  'answerRequest',
  'reportRoutesApplied',
  'getDesired',
]);
/** No token's limit is lower than this for what is vital. */
const vital_rate_min: Rate = { perS: 50, burst: 100 };

const callers_max = 50_000;

export type RateLimitOptions = Readonly<{
  nowUs: () => number;
  /** For tokens that have no limit of their own; null: none. */
  token_requests_per_s: number | null;
  token_requests_burst: number | null;
  /** For requests without a valid token, by address; null: none. */
  stranger_requests_per_s: number | null;
  stranger_requests_burst: number | null;
}>;

/** How much each caller may ask for, counted by this server alone. */
export class RateLimits {
  readonly #options: RateLimitOptions;
  readonly #tokens: Buckets<number>;
  readonly #vital: Buckets<number>;
  readonly #strangers: Buckets<string>;
  readonly #strangersRate: Rate | undefined;

  constructor(options: RateLimitOptions) {
    this.#options = options;
    const buckets = { nowUs: options.nowUs, keys_max: callers_max };
    this.#tokens = new Buckets(buckets);
    this.#vital = new Buckets(buckets);
    this.#strangers = new Buckets(buckets);
    this.#strangersRate = rateOf(options.stranger_requests_per_s, options.stranger_requests_burst);
  }

  /** Undefined where the token has no limit. What is vital has a bucket of its own, which nothing else can empty. */
  ofToken(operation: OperationId, { token, quota }: Pick<Principal, 'token' | 'quota'>): Verdict | undefined {
    const { token_requests_per_s: perS, token_requests_burst: burst } = this.#options;
    const rate = quota.requestsPerS === null ? rateOf(perS, burst) : rateOf(quota.requestsPerS, quota.requestsBurst);
    if (rate === undefined) return undefined;
    if (!vital.has(operation)) return this.#tokens.take(token, rate);
    return this.#vital.take(token, {
      perS: Math.max(rate.perS, vital_rate_min.perS),
      burst: Math.max(rate.burst, vital_rate_min.burst),
    });
  }

  ofStranger(address: string): Verdict | undefined {
    return this.#strangersRate && this.#strangers.take(networkOf(address), this.#strangersRate);
  }

  /** The stranger turned out to have a valid token. */
  isNoStranger(address: string): void {
    if (this.#strangersRate) this.#strangers.giveBack(networkOf(address), this.#strangersRate);
  }
}

function rateOf(perS: number | null, burst: number | null): Rate | undefined {
  return perS === null ? undefined : { perS, burst: burst ?? 2 * perS };
}

/** Whoever has one IPv6 address has its /64, so that counts as one. */
function networkOf(address: string): string {
  if (!isIPv6(address) || address.startsWith('::ffff:')) return address;
  const [head = '', tail] = address.split('::');
  const groups = head === '' ? [] : head.split(':');
  if (tail !== undefined) {
    const rest = tail === '' ? [] : tail.split(':');
    while (groups.length + rest.length < 8) groups.push('0');
    groups.push(...rest);
  }
  return `${groups.slice(0, 4).join(':')}::/64`;
}
