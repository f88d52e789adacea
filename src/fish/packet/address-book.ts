import {
  addressFromBigInt,
  addressToBytes,
  familyOf,
  ipv4FromNumber,
  ipv4ToNumber,
  type Address,
} from '../../net/address.ts';
import { EMPTY, ProbedRows } from '../tables/probed-rows.ts';
import { IPV6, NOT_KNOWN } from './packet.ts';

/** No number of any address: nothing is entered there. */
export const NO_ADDRESS = 0;

/**
 * IPv6 addresses by number, so that flows, blocks and peers keep 32 bits of an address, whatever its family. An entry is
 * there for as long as somebody counts on it (`hold`, `letGo`); its number is that of its row, and stays until then. Numbers
 * begin with 1 and stay below 2^24, so none is an IPv4 address that a packet may have.
 *
 * The rows are somebody else's memory, and may outlive this process: who comes next counts anew what it takes over. A row is
 * written before whatever names it, and free as soon as nothing does, so its stores need no order.
 */
export class AddressBook {
  /** Four words a row, most significant first. Row 0 is not used. */
  readonly words: Uint32Array;
  readonly capacity: number;
  readonly #uses: Uint32Array;
  readonly #rows: ProbedRows;
  /** The rows that are free, a stack: the lowest first, in fresh memory. */
  readonly #free: Uint32Array;
  #freeCount = 0;
  #isSettled = false;
  count = 0;

  /** No row is free before `settle`. `random`: 32 bits, unsigned, to seed the hash. */
  constructor(words: Uint32Array, random: () => number) {
    this.words = words;
    this.capacity = Math.max(0, words.length / 4 - 1);
    this.#uses = new Uint32Array(this.capacity + 1);
    this.#rows = new ProbedRows(this.capacity + 1, random);
    this.#free = new Uint32Array(this.capacity);
  }

  /** The number of the address at this offset, or NOT_KNOWN. */
  find(view: DataView, at: number): number {
    return this.#find(view.getUint32(at), view.getUint32(at + 4), view.getUint32(at + 8), view.getUint32(at + 12));
  }

  /** What an address is for flows and blocks: of IPv4 a number by itself, of IPv6 that of its row, or NOT_KNOWN. */
  numberOf(address: Address): number {
    return familyOf(address) === 4 ? ipv4ToNumber(address) : this.find(viewOf(address), 0);
  }

  /** How many more addresses there is room for. */
  get free(): number {
    return this.#freeCount;
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

  /** Counts once more on a row that somebody counts on already. */
  holdRow(row: number): void {
    this.#uses[row] = this.#uses[row]! + 1;
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
    this.#rows.remove(row);
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
    this.#rows.add(row, this.#rows.hash(words[at]!, words[at + 1]!, words[at + 2]!, words[at + 3]!));
    this.#uses[row] = 1;
    this.count++;
  }

  #find(first: number, second: number, third: number, fourth: number): number {
    const { places, mask, hashes } = this.#rows;
    const hash = this.#rows.hash(first, second, third, fourth);
    const { words } = this;
    for (let place = hash & mask; ; place = (place + 1) & mask) {
      // Every place is below the size.
      const row = places[place]!;
      if (row === EMPTY) return NOT_KNOWN;
      const at = row * 4;
      if (
        hashes[row] === hash &&
        words[at + 3] === fourth &&
        words[at + 2] === third &&
        words[at + 1] === second &&
        words[at] === first
      )
        return row;
    }
  }
}

function viewOf(address: Address): DataView {
  const bytes = addressToBytes(address);
  if (bytes.length !== 16) throw new RangeError(`${address} is not an IPv6 address`);
  return new DataView(bytes.buffer);
}
