import { TokenBuckets } from '../tables/token-buckets.ts';

/** So many a second, in bursts of as many. */
export class Allowance {
  readonly #bucket: TokenBuckets;

  constructor(perSecondMax: number) {
    this.#bucket = new TokenBuckets(1, perSecondMax);
  }

  /** How many could be taken now, and what there is of one more. */
  left(nowMs: number): number {
    return this.#bucket.left(0, nowMs);
  }

  /** Takes one; false when there is none left. */
  spend(nowMs: number): boolean {
    return this.#bucket.spend(0, nowMs);
  }
}
