const NONE = -1;

/** Lists of rows, each row in one list at most; adding and removing take one step. */
export class RowLists {
  readonly #first: Int32Array;
  readonly #last: Int32Array;
  readonly #next: Int32Array;
  readonly #previous: Int32Array;

  constructor(lists: number, rowsMax: number) {
    this.#first = new Int32Array(lists).fill(NONE);
    this.#last = new Int32Array(lists).fill(NONE);
    this.#next = new Int32Array(rowsMax).fill(NONE);
    this.#previous = new Int32Array(rowsMax).fill(NONE);
  }

  /** A row, or -1 when the list is empty. */
  first(list: number): number {
    return this.#first[list]!;
  }

  /** The row behind this one, or -1. */
  next(row: number): number {
    return this.#next[row]!;
  }

  /** Adds a row, which is in no list, at the end. */
  push(list: number, row: number): void {
    const last = this.#last[list]!;
    this.#previous[row] = last;
    this.#next[row] = NONE;
    if (last === NONE) this.#first[list] = row;
    else this.#next[last] = row;
    this.#last[list] = row;
  }

  /** Takes a row out of the list that it is in. */
  remove(list: number, row: number): void {
    const next = this.#next[row]!;
    const previous = this.#previous[row]!;
    if (previous === NONE) this.#first[list] = next;
    else this.#next[previous] = next;
    if (next === NONE) this.#last[list] = previous;
    else this.#previous[next] = previous;
  }
}
