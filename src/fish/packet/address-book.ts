import {
  addressFromBigInt,
  addressToBytes,
  familyOf,
  ipv4FromNumber,
  ipv4ToNumber,
  type Address,
} from '../../net/address.ts';
import { IPV6, NOT_KNOWN } from './packet.ts';

/** No number of any address: nothing is entered there. */
export const NO_ADDRESS = 0;

const EMPTY = 0;

/**
 * IPv6 addresses by number, so that flows, blocks and peers keep 32 bits of an address, whatever its family. An entry is
 * there for as long as somebody counts on it (`hold`, `letGo`); its number is that of its row, and stays until then. Numbers
 * begin with 1 and stay below 2^24, so none is an IPv4 address that a packet may have.
 *
 * The rows are somebody else's memory, and may outlive this process: who comes next counts anew what it takes over. A row is
 * written before whatever names it, and free as soon as nothing does, so its stores need no order.
 *
 * Found by open addressing with linear probing, at most half full. Remotes choose their addresses, so the hash is seeded.
 */
export class AddressBook {
  /** Four words a row, most significant first. Row 0 is not used. */
  readonly words: Uint32Array;
  readonly capacity: number;
  readonly #uses: Uint32Array;
  readonly #hashes: Uint32Array;
  readonly #places: Uint32Array;
  readonly #mask: number;
  readonly #seed: number;
  readonly #secondSeed: number;
  /** The rows that are free, a stack: the lowest first, in fresh memory. */
  readonly #free: Uint32Array;
  #freeCount = 0;
  #isSettled = false;
  count = 0;

  /** No row is free before `settle`. `random`: 32 bits, unsigned, to seed the hash. */
  constructor(words: Uint32Array, random: () => number) {
    this.words = words;
    this.capacity = Math.max(0, words.length / 4 - 1);
    const size = 2 ** Math.ceil(Math.log2(Math.max(8, this.capacity * 2)));
    this.#uses = new Uint32Array(this.capacity + 1);
    this.#hashes = new Uint32Array(this.capacity + 1);
    this.#free = new Uint32Array(this.capacity);
    this.#places = new Uint32Array(size);
    this.#mask = size - 1;
    this.#seed = random() | 0;
    this.#secondSeed = random() | 0;
  }

  /** The number of the address at this offset, or NOT_KNOWN. */
  find(view: DataView, at: number): number {
    return this.#find(view.getUint32(at), view.getUint32(at + 4), view.getUint32(at + 8), view.getUint32(at + 12));
  }

  /** What an address is for flows and blocks: of IPv4 a number by itself, of IPv6 that of its row, or NOT_KNOWN. */
  numberOf(address: Address): number {
    return familyOf(address) === 4 ? ipv4ToNumber(address) : this.find(viewOf(address), 0);
  }

  /** Counts once more on the address at this offset: its number, or NO_ADDRESS when the book is full. */
  hold(view: DataView, at: number): number {
    return this.#hold(view.getUint32(at), view.getUint32(at + 4), view.getUint32(at + 8), view.getUint32(at + 12));
  }

  /** Counts on the address that another book has in this row. */
  holdFrom(book: AddressBook, row: number): number {
    const at = row * 4;
    const { words } = book;
    return this.#hold(words[at]!, words[at + 1]!, words[at + 2]!, words[at + 3]!);
  }

  holdText(address: Address): number {
    return this.hold(viewOf(address), 0);
  }

  /** Counts once less on an entry that was held; the last one makes it free. */
  letGo(row: number): void {
    const uses = this.#uses[row] ?? 0;
    if (uses === 0) throw new Error(`address ${row} is not held`);
    this.#uses[row] = uses - 1;
    if (uses > 1) return;
    this.#remove(row);
    this.count--;
    if (this.#isSettled) this.#free[this.#freeCount++] = row;
  }

  /** Counts on a row as it was found; false when it is none, or when another has the same address already. */
  adopt(row: number): boolean {
    if (row < 1 || row > this.capacity) return false;
    const uses = this.#uses[row]!;
    if (uses > 0) {
      this.#uses[row] = uses + 1;
      return true;
    }
    const at = row * 4;
    const { words } = this;
    if (this.#find(words[at]!, words[at + 1]!, words[at + 2]!, words[at + 3]!) !== NOT_KNOWN) return false;
    this.#enter(row);
    return true;
  }

  /** All that counts was taken over: every other row is free. */
  settle(): void {
    if (this.#isSettled) return;
    this.#isSettled = true;
    for (let row = this.capacity; row >= 1; row--) if (this.#uses[row] === 0) this.#free[this.#freeCount++] = row;
  }

  /** The text of the address that this number stands for in a flow, or a block, of this protocol. */
  textOf(protocol: number, address: number): Address {
    return protocol < IPV6 ? ipv4FromNumber(address) : this.#textOf6(address);
  }

  #textOf6(row: number): Address {
    let value = 0n;
    for (let i = 0; i < 4; i++) value = (value << 32n) | BigInt(this.words[row * 4 + i] ?? 0);
    return addressFromBigInt(6, value);
  }

  #hold(first: number, second: number, third: number, fourth: number): number {
    const found = this.#find(first, second, third, fourth);
    if (found !== NOT_KNOWN) {
      this.#uses[found] = this.#uses[found]! + 1;
      return found;
    }
    if (this.#freeCount === 0) return NO_ADDRESS;
    // The stack holds numbers of rows, which have four words each.
    const row = this.#free[--this.#freeCount]!;
    const at = row * 4;
    const { words } = this;
    words[at] = first;
    words[at + 1] = second;
    words[at + 2] = third;
    words[at + 3] = fourth;
    this.#enter(row);
    return row;
  }

  #enter(row: number): void {
    const at = row * 4;
    const { words } = this;
    const hash = this.#hash(words[at]!, words[at + 1]!, words[at + 2]!, words[at + 3]!);
    this.#hashes[row] = hash;
    this.#uses[row] = 1;
    this.count++;
    let place = hash & this.#mask;
    while (this.#places[place] !== EMPTY) place = (place + 1) & this.#mask;
    this.#places[place] = row;
  }

  #find(first: number, second: number, third: number, fourth: number): number {
    const hash = this.#hash(first, second, third, fourth);
    const { words } = this;
    for (let place = hash & this.#mask; ; place = (place + 1) & this.#mask) {
      // Every place is below the size, and there is always an empty one to end at.
      const row = this.#places[place]!;
      if (row === EMPTY) return NOT_KNOWN;
      const at = row * 4;
      if (
        this.#hashes[row] === hash &&
        words[at + 3] === fourth &&
        words[at + 2] === third &&
        words[at + 1] === second &&
        words[at] === first
      )
        return row;
    }
  }

  /** What stands behind the gap moves into it, unless that would put it before the place where its search begins. */
  #remove(row: number): void {
    let gap = this.#hashes[row]! & this.#mask;
    while (this.#places[gap] !== row) gap = (gap + 1) & this.#mask;
    for (let place = (gap + 1) & this.#mask; ; place = (place + 1) & this.#mask) {
      const follower = this.#places[place]!;
      if (follower === EMPTY) break;
      const home = this.#hashes[follower]! & this.#mask;
      if (((place - home) & this.#mask) < ((place - gap) & this.#mask)) continue;
      this.#places[gap] = follower;
      gap = place;
    }
    this.#places[gap] = EMPTY;
  }

  #hash(first: number, second: number, third: number, fourth: number): number {
    let hash = Math.imul(first ^ this.#seed, 0x9e3779b1);
    hash = Math.imul(hash ^ (hash >>> 15) ^ second, 0x85ebca6b);
    hash = Math.imul(hash ^ (hash >>> 13) ^ third, 0xc2b2ae35);
    hash = Math.imul(hash ^ (hash >>> 16) ^ fourth ^ this.#secondSeed, 0x27d4eb2f);
    return (hash ^ (hash >>> 15)) >>> 0;
  }
}

function viewOf(address: Address): DataView {
  const bytes = addressToBytes(address);
  if (bytes.length !== 16) throw new RangeError(`${address} is not an IPv6 address`);
  return new DataView(bytes.buffer);
}
