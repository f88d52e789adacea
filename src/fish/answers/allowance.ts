/** So many a second, in bursts of as many: a bucket of tokens that fills as time passes. */
export class Allowance {
  readonly #perSecondMax: number;
  #tokens: number;
  #refilledMs = 0;

  constructor(perSecondMax: number) {
    this.#perSecondMax = perSecondMax;
    this.#tokens = perSecondMax;
  }

  /** How many could be taken now, and what there is of one more. */
  left(nowMs: number): number {
    const gained = ((nowMs - this.#refilledMs) / 1_000) * this.#perSecondMax;
    this.#tokens = Math.min(this.#perSecondMax, this.#tokens + gained);
    this.#refilledMs = nowMs;
    return this.#tokens;
  }

  /** Takes one; false when there is none left. */
  spend(nowMs: number): boolean {
    if (this.left(nowMs) < 1) return false;
    this.#tokens--;
    return true;
  }
}
