/** Ports in a row that are searched together: from number `first`, so many. */
export type Stretch = Readonly<{ first: number; total: number }>;

/**
 * All leased ports of one protocol in a row, whatever blocks they lie in: numbers from 0 up, those of one address together.
 */
export class PortSpace {
  readonly whole: Stretch;
  readonly #byAddress = new Map<number, Stretch>();
  /** The number of each block's first port, ascending. */
  readonly #firsts: Uint32Array;
  readonly #slots: Uint16Array;

  /** `address`: of the block, as a number. */
  constructor(given: readonly Readonly<{ slot: number; address: number; ports: number }>[]) {
    const blocks = given.toSorted((a, b) => a.address - b.address);
    this.#firsts = new Uint32Array(blocks.length);
    this.#slots = Uint16Array.from(blocks, (block) => block.slot);
    let total = 0;
    for (const [i, block] of blocks.entries()) {
      this.#firsts[i] = total;
      total += block.ports;
    }
    this.whole = { first: 0, total };
    let first = 0;
    for (const [address, members] of Map.groupBy(blocks, (block) => block.address)) {
      const ports = members.reduce((sum, member) => sum + member.ports, 0);
      this.#byAddress.set(address, { first, total: ports });
      first += ports;
    }
  }

  /** How many addresses they are of. */
  get addresses(): number {
    return this.#byAddress.size;
  }

  /** The ports of one address; undefined when it has none. */
  ofAddress(address: number): Stretch | undefined {
    return this.#byAddress.get(address);
  }

  /** Which of the blocks, by ascending address, has this port: a binary search. */
  indexOf(port: number): number {
    let low = 0;
    let high = this.#firsts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      // middle lies between low and high, which are indexes.
      if (this.#firsts[middle]! <= port) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** The block table's slot of that block, */
  slotAt(index: number): number {
    return this.#slots[index]!;
  }

  /** and the port's distance from the block's first. */
  offsetIn(index: number, port: number): number {
    return port - this.#firsts[index]!;
  }
}

/**
 * A step from port to port that visits each of them once, from wherever it begins: coprime with their number, and another for each
 * search, by its random number. With the same for all, each search would go where others have gone before it, along the ports
 * that they found used or have taken: the rows of those grow, as in a hash table with linear probing.
 */
export function stepThrough(total: number, random: number): number {
  // 1 is coprime with everything, so this ends; on the way down a coprime is rarely more than a few steps off.
  for (let step = 1 + (random % total); step > 1; step--) if (greatestCommonDivisor(step, total) === 1) return step;
  return 1;
}

const greatestCommonDivisor = (a: number, b: number): number => (b === 0 ? a : greatestCommonDivisor(b, a % b));
