/** The fraction of a circle by which steps spread best, whatever their number. */
const GOLDEN = 0.618_033_988_749_895;

/**
 * All leased ports of one protocol in a row, whatever blocks they lie in: numbers from 0 up to `total`. Searching it by
 * `step` from any start visits every port once, and far from the one before, so that neither a block nor a stretch of
 * one fills up first.
 */
export class PortSpace {
  readonly total: number;
  /** Coprime with `total`: it comes around only after all of them. */
  readonly step: number;
  /** The number of each block's first port, ascending. */
  readonly #firsts: Uint32Array;
  readonly #slots: Uint16Array;

  constructor(blocks: readonly Readonly<{ slot: number; ports: number }>[]) {
    this.#firsts = new Uint32Array(blocks.length);
    this.#slots = Uint16Array.from(blocks, (block) => block.slot);
    let total = 0;
    for (const [i, block] of blocks.entries()) {
      this.#firsts[i] = total;
      total += block.ports;
    }
    this.total = total;
    this.step = coprimeNear(total * GOLDEN, total);
  }

  /** Which of the blocks, in the order given, has this port: a binary search. */
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

function coprimeNear(wish: number, total: number): number {
  // 1 is coprime with everything, so this ends; on the way down a coprime is rarely more than a few steps off.
  for (let step = Math.max(1, Math.floor(wish)); step > 1; step--)
    if (greatestCommonDivisor(step, total) === 1) return step;
  return 1;
}

const greatestCommonDivisor = (a: number, b: number): number => (b === 0 ? a : greatestCommonDivisor(b, a % b));
