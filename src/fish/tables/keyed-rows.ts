import { EMPTY, ProbedRows } from './probed-rows.ts';

/** No row. */
export const NOWHERE = -1;

/** Keys of two words that get a row as long as they are needed: where `ProbedRows` finds rows of others, these are handed out. */
export class KeyedRows {
  readonly #table: ProbedRows;
  readonly #first: Uint32Array;
  readonly #second: Uint32Array;
  /** A stack of the rows that are free; the next one is on top. */
  readonly #free: Int32Array;
  #freeCount: number;

  constructor(rows: number, random: () => number) {
    this.#table = new ProbedRows(rows, random);
    this.#first = new Uint32Array(rows);
    this.#second = new Uint32Array(rows);
    this.#free = Int32Array.from({ length: rows }, (_, i) => rows - 1 - i);
    this.#freeCount = rows;
  }

  get count(): number {
    return this.#free.length - this.#freeCount;
  }

  first(row: number): number {
    return this.#first[row]!;
  }

  second(row: number): number {
    return this.#second[row]!;
  }

  /** The row of a key, or NOWHERE. */
  find(first: number, second: number): number {
    const { places, mask } = this.#table;
    for (let place = this.#table.hash2(first, second) & mask; ; place = (place + 1) & mask) {
      // Every place is below the size, and what it holds a row of both columns.
      const row = places[place]!;
      if (row === EMPTY) return NOWHERE;
      if (this.#first[row] === first && this.#second[row] === second) return row;
    }
  }

  /** The row of a key that has none yet; NOWHERE when none is free. */
  take(first: number, second: number): number {
    if (this.#freeCount === 0) return NOWHERE;
    const row = this.#free[--this.#freeCount]!;
    this.#first[row] = first;
    this.#second[row] = second;
    this.#table.add(row, this.#table.hash2(first, second));
    return row;
  }

  /** A row that was taken is free again. */
  release(row: number): void {
    this.#table.remove(row);
    this.#free[this.#freeCount++] = row;
  }
}
