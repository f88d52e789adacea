const bytesPerWord = 4;
const valuesPerByte = 256;
const wordEntries = bytesPerWord * valuesPerByte;

/**
 * Hashes keys of up to so many 32-bit words, so that nobody who chooses the keys can choose their hashes: simple tabulation, a
 * table of random numbers for each byte, and their exclusive or. Any three keys' hashes are independent of each other, and linear
 * probing stays short (Pătraşcu and Thorup, "The Power of Simple Tabulation Hashing", 2011). Multiplications with a seed in
 * front do not do that: differences in a word's uppermost bits pass through them whatever the seed is.
 */
export class SeededHash {
  readonly #table: Uint32Array;

  /** `random`: 32 bits, unsigned, unforeseeable. */
  constructor(words: number, random: () => number) {
    this.#table = new Uint32Array(words * wordEntries);
    // A plain loop: `from` and `map` take ten times as long, which tests feel that begin many a fish.
    for (let i = 0; i < this.#table.length; i++) this.#table[i] = random();
  }

  /** 32 bits, unsigned, as all of them. */
  of2(first: number, second: number): number {
    return (this.#word(0, first) ^ this.#word(wordEntries, second)) >>> 0;
  }

  of3(first: number, second: number, third: number): number {
    return (this.#word(0, first) ^ this.#word(wordEntries, second) ^ this.#word(2 * wordEntries, third)) >>> 0;
  }

  of4(first: number, second: number, third: number, fourth: number): number {
    return (this.of3(first, second, third) ^ this.#word(3 * wordEntries, fourth)) >>> 0;
  }

  #word(from: number, word: number): number {
    const table = this.#table;
    // Each index is below what the table has for this word.
    return (
      table[from + (word & 255)]! ^
      table[from + 256 + ((word >>> 8) & 255)]! ^
      table[from + 512 + ((word >>> 16) & 255)]! ^
      table[from + 768 + (word >>> 24)]!
    );
  }
}
