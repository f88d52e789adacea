import { addressWords_max, copyAddress, hashAddress, isSameAddress } from '../packet/address-words.ts';
import { HashChains } from '../tables/hash-chains.ts';
import { RowLists } from '../tables/row-lists.ts';

const NONE = -1;
/** Weights are told apart by their powers of two. */
const classes_max = 32;

/**
 * Who has how much of a store that everybody fills. What has to give way is the oldest of somebody who has most, give or take a
 * factor of two, so that whoever fills the store drives out what is his own (longest queue drop). Everything is done in a few
 * steps, whatever the number of sources; memory is fixed.
 *
 * Entries are rows of the caller's, each of one source; a source is there as long as it has any.
 */
export class FragmentShares {
  readonly #seed: number;
  readonly #index: HashChains;
  readonly #address: Uint32Array;
  readonly #addressBytes: Uint8Array;
  readonly #weight: Uint32Array;
  readonly #byClass: RowLists;
  /** The entries of each source, the oldest first. */
  readonly #entries: RowLists;
  /** By entry. */
  readonly #source: Int32Array;
  readonly #free: Int32Array;
  #freeCount: number;

  constructor(entriesMax: number, random: () => number) {
    this.#seed = random() | 0;
    this.#index = new HashChains(entriesMax);
    this.#address = new Uint32Array(entriesMax * addressWords_max);
    this.#addressBytes = new Uint8Array(entriesMax);
    this.#weight = new Uint32Array(entriesMax);
    this.#byClass = new RowLists(classes_max, entriesMax);
    this.#entries = new RowLists(entriesMax, entriesMax);
    this.#source = new Int32Array(entriesMax);
    this.#free = Int32Array.from({ length: entriesMax }, (_, i) => i);
    this.#freeCount = entriesMax;
  }

  /** How many have anything. */
  get sources(): number {
    return this.#free.length - this.#freeCount;
  }

  /** The entry is this address's, its newest, with a weight of 1. */
  add(entry: number, view: DataView, at: number, bytes: number): void {
    const source = this.#find(view, at, bytes);
    this.#source[entry] = source;
    this.#entries.push(source, entry);
    this.#weigh(source, 1);
  }

  /** What the entry has grows, or shrinks. */
  grow(entry: number, by: number): void {
    this.#weigh(this.#source[entry]!, by);
  }

  /** The entry is gone; it had shrunk to a weight of 1. */
  remove(entry: number): void {
    const source = this.#source[entry]!;
    this.#entries.remove(source, entry);
    this.#weigh(source, -1);
    if (this.#entries.first(source) !== NONE) return;
    this.#index.remove(source);
    this.#free[this.#freeCount++] = source;
  }

  /** Of all that the source of this entry has. */
  weightBeside(entry: number): number {
    return this.#weight[this.#source[entry]!]!;
  }

  /** The oldest entry of the source that has this one. */
  oldestBeside(entry: number): number {
    return this.#entries.first(this.#source[entry]!);
  }

  /** The oldest entry of one of those that have most, or -1 when nobody has any. */
  oldestOfHeaviest(): number {
    for (let weightClass = classes_max - 1; weightClass >= 0; weightClass--) {
      const source = this.#byClass.first(weightClass);
      if (source !== NONE) return this.#entries.first(source);
    }
    return NONE;
  }

  #find(view: DataView, at: number, bytes: number): number {
    const hash = hashAddress(view, at, bytes, this.#seed);
    let source = this.#index.first(hash);
    while (source !== NONE && !this.#is(source, hash, view, at, bytes)) source = this.#index.next(source);
    if (source !== NONE) return source;
    // There are as many rows as entries, and each source has one entry at least: one is free.
    source = this.#free[--this.#freeCount]!;
    copyAddress(view, at, bytes, this.#address, source * addressWords_max);
    this.#addressBytes[source] = bytes;
    this.#index.add(source, hash);
    return source;
  }

  #is(source: number, hash: number, view: DataView, at: number, bytes: number): boolean {
    if (this.#index.hash[source] !== hash || this.#addressBytes[source] !== bytes) return false;
    return isSameAddress(view, at, bytes, this.#address, source * addressWords_max);
  }

  #weigh(source: number, by: number): void {
    const before = this.#weight[source]!;
    const after = before + by;
    this.#weight[source] = after;
    if (classOf(before) === classOf(after)) return;
    if (before !== 0) this.#byClass.remove(classOf(before), source);
    if (after !== 0) this.#byClass.push(classOf(after), source);
  }
}

/** -1 for a weight of 0, which is in no list. */
const classOf = (weight: number): number => 31 - Math.clz32(weight);
