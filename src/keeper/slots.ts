/** Which slots of a kind are free, for the one who puts descriptors of that kind. The lowest numbers come first. */
export class Slots {
  readonly #max: number;
  readonly #freed: number[] = [];
  readonly #used = new Set<number>();
  #next = 0;

  /** `used`: what a keeper holds already. */
  constructor(max: number, used: Iterable<number> = []) {
    this.#max = max;
    for (const slot of used) this.#used.add(slot);
  }

  get used(): number {
    return this.#used.size;
  }

  /** undefined when none is left. */
  take(): number | undefined {
    const slot = this.#freed.pop() ?? this.#unused();
    if (slot !== undefined) this.#used.add(slot);
    return slot;
  }

  /** Giving back twice is a bug: somebody else may have it by now. */
  give(slot: number): void {
    if (!this.#used.delete(slot)) throw new Error(`slot ${slot} is not in use`);
    // Higher ones are found by counting on.
    if (slot < this.#next) this.#freed.push(slot);
  }

  #unused(): number | undefined {
    while (this.#next < this.#max && this.#used.has(this.#next)) this.#next++;
    return this.#next < this.#max ? this.#next++ : undefined;
  }
}
