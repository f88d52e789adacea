import { hashAddress } from './address-words.ts';

/** Counters, shared by pairs of addresses that have the same hash: two pairs of one counter only use it up faster. */
const counters_max = 2_048;

/**
 * The identification of what may be cut into fragments. Those who share an address inside or outside, and chose theirs without
 * knowing of each other, would have a receiver put their fragments together to something that nobody sent (RFC 6864 4.3
 * and 5.2). So every packet that is translated gets the next number of its pair of addresses and protocol: in a row, because
 * receivers merge segments only of such, and from a beginning that nobody can foretell (RFC 7739).
 */
export class Identifications {
  readonly #seed: number;
  readonly #next: Uint32Array;

  constructor(random: () => number) {
    this.#seed = random();
    this.#next = Uint32Array.from({ length: counters_max }, random);
  }

  /**
   * The first of `count` numbers for a packet between the addresses that are in the view one behind the other: 32 bits,
   * of which IPv4 uses the lower half.
   */
  take(view: DataView, sourceAt: number, addressBytes: number, protocol: number, count: number): number {
    const counter = hashAddress(view, sourceAt, addressBytes * 2, this.#seed ^ protocol) & (counters_max - 1);
    const number = this.#next[counter]!;
    this.#next[counter] = number + count;
    return number;
  }
}
