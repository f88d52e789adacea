/** Rows that may each have so many a second, in bursts of as many: buckets of tokens that fill as time passes. */
export class TokenBuckets {
  readonly #perSecondMax: number;
  readonly #tokens: Float64Array;
  readonly #refilledMs: Float64Array;

  constructor(rows: number, perSecondMax: number) {
    this.#perSecondMax = perSecondMax;
    this.#tokens = new Float64Array(rows).fill(perSecondMax);
    this.#refilledMs = new Float64Array(rows);
  }

  /** Fills a row's bucket: it is somebody else's. */
  begin(row: number, nowMs: number): void {
    this.#tokens[row] = this.#perSecondMax;
    this.#refilledMs[row] = nowMs;
  }

  /** How many could be taken now, and what there is of one more. */
  left(row: number, nowMs: number): number {
    const gained = ((nowMs - this.#refilledMs[row]!) / 1_000) * this.#perSecondMax;
    const tokens = Math.min(this.#perSecondMax, this.#tokens[row]! + gained);
    this.#tokens[row] = tokens;
    this.#refilledMs[row] = nowMs;
    return tokens;
  }

  /** Takes one; false when there is none left. */
  spend(row: number, nowMs: number): boolean {
    const tokens = this.left(row, nowMs);
    if (tokens < 1) return false;
    this.#tokens[row] = tokens - 1;
    return true;
  }
}
