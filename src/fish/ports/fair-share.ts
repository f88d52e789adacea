/**
 * How much one client may have of something that runs out. Alone it may take up to `share` of all; whatever others have taken
 * makes everybody's limit smaller, in proportion to what is left: own ≤ α · free with α = share / (1 − share), the dynamic
 * threshold of Choudhury and Hahne (1998). So there is always something left for who comes next, n greedy clients have the
 * same each, and nobody is counted in advance.
 */
export class FairShare {
  /** In thousandths: sums of fractions would be off by one now and then. */
  readonly #share: number;

  /** More than 0; 1: whoever comes first has all. */
  constructor(share: number) {
    this.#share = Math.max(1, Math.round(share * 1_000));
  }

  /** Whether who has `own` may take one more of the `free`; what is none is for others to refuse. */
  allows(own: number, free: number): boolean {
    return free <= 0 || own * (1_000 - this.#share) < this.#share * free;
  }
}
