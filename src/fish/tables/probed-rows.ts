import { SeededHash } from './seeded-hash.ts';

/** What a place of the table holds that holds no row. */
export const EMPTY = -1;

/**
 * A hash table of rows whose keys somebody else has: open addressing with linear probing, at most half full. Removing shifts
 * back what follows instead of leaving a tombstone, so that a look-up stays as short after a billion rows as it was at the
 * start.
 *
 * A look-up begins at the place `hash & mask`, and goes on by one, modulo the mask, until it finds its row or EMPTY, which is always
 * there to end at. It stands where the keys are, as the innermost loop of every packet.
 */
export class ProbedRows {
  readonly places: Int32Array;
  readonly mask: number;
  /** The hash of each row that is in the table: removing has to know where its followers belong. */
  readonly hashes: Uint32Array;
  readonly #hash: SeededHash;

  /** Rows from 0 up to `rows`, exclusive. `random`: 32 bits, unsigned, to seed the hash. */
  constructor(rows: number, random: () => number) {
    const size = 2 ** Math.ceil(Math.log2(Math.max(8, rows * 2)));
    this.places = new Int32Array(size).fill(EMPTY);
    this.mask = size - 1;
    this.hashes = new Uint32Array(rows);
    this.#hash = new SeededHash(4, random);
  }

  /** Of a key of four 32-bit words. */
  hash(first: number, second: number, third: number, fourth: number): number {
    return this.#hash.of4(first, second, third, fourth);
  }

  /** Of a key of two. A table has keys of one kind. */
  hash2(first: number, second: number): number {
    return this.#hash.of2(first, second);
  }

  /** No row with the same key may be there. */
  add(row: number, hash: number): void {
    const { places, mask } = this;
    this.hashes[row] = hash;
    let place = hash & mask;
    while (places[place] !== EMPTY) place = (place + 1) & mask;
    places[place] = row;
  }

  /** Takes a row out that is in the table; that it is not is a bug, and throws. */
  remove(row: number): void {
    const { places, mask, hashes } = this;
    let gap = this.#placeOf(row);
    // What stands behind the gap moves into it, unless that would put it before the place where its search begins.
    for (let place = (gap + 1) & mask; ; place = (place + 1) & mask) {
      // Every place is below the size, and every row in one has its hash.
      const follower = places[place]!;
      if (follower === EMPTY) break;
      const home = hashes[follower]! & mask;
      if (((place - home) & mask) < ((place - gap) & mask)) continue;
      places[gap] = follower;
      gap = place;
    }
    places[gap] = EMPTY;
  }

  #placeOf(row: number): number {
    const { places, mask } = this;
    for (let place = this.hashes[row]! & mask; ; place = (place + 1) & mask) {
      const found = places[place]!;
      if (found === row) return place;
      if (found === EMPTY) throw new Error(`row ${row} is not in the table`);
    }
  }
}
