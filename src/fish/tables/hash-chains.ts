const NONE = -1;

/** A chained hash table of rows whose keys somebody else has: `first` and `next` lead through those of a hash. */
export class HashChains {
  readonly #buckets: Int32Array;
  readonly #mask: number;
  readonly #next: Int32Array;
  /** Of the rows that are in the table. */
  readonly hash: Int32Array;

  constructor(rowsMax: number) {
    const size = 2 ** Math.ceil(Math.log2(Math.max(8, rowsMax * 2)));
    this.#buckets = new Int32Array(size).fill(NONE);
    this.#mask = size - 1;
    this.#next = new Int32Array(rowsMax).fill(NONE);
    this.hash = new Int32Array(rowsMax);
  }

  /** A row, or -1. It may be of another hash, which is for the caller to see. */
  first(hash: number): number {
    return this.#buckets[hash & this.#mask]!;
  }

  next(row: number): number {
    return this.#next[row]!;
  }

  add(row: number, hash: number): void {
    const bucket = hash & this.#mask;
    this.hash[row] = hash;
    this.#next[row] = this.#buckets[bucket]!;
    this.#buckets[bucket] = row;
  }

  /** Takes a row out that is in the table. */
  remove(row: number): void {
    const bucket = this.hash[row]! & this.#mask;
    const next = this.#next[row]!;
    let before = this.#buckets[bucket]!;
    if (before === row) {
      this.#buckets[bucket] = next;
      return;
    }
    while (this.#next[before] !== row) before = this.#next[before]!;
    this.#next[before] = next;
  }
}
