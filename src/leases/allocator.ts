import { blockAt, largestFit, rangeContains, type PortRange } from '../net/ports.ts';

/**
 * The choice of ports: arithmetic over free pieces. It knows nothing of leases, holders, time or states, which is why it
 * can be checked against a naive one on random input.
 */
export type FreePiece = Readonly<{ slice: number; ports: PortRange; fit: number; restedSince: number }>;

/**
 * Free pieces in the order in which they are chosen, each choice a binary search: however many pieces a batch has loaded
 * for the claims that compete for them, a claim does not look through them all.
 */
export class PieceQueue<P extends FreePiece> {
  readonly #pieces: P[] = [];

  add(piece: P): void {
    this.#pieces.splice(this.#indexOf(piece), 0, piece);
  }

  remove(piece: P): void {
    const index = this.#indexOf(piece);
    const found = this.#pieces[index];
    if (found && !comesBefore(piece, found)) this.#pieces.splice(index, 1);
  }

  /**
   * The piece to take a block of 2^order ports from: the tightest fit, so that large pieces stay large for large leases;
   * among equals the one that rested longest, so that late packets of earlier users find nobody. The rest of the order
   * only makes the answer the same wherever it is computed.
   */
  choose(order: number): P | undefined {
    return this.#pieces[this.#firstThat((piece) => piece.fit >= order)];
  }

  /** The first `count` that could be chosen for a block of 2^order ports, the best first. */
  first(count: number, order: number): readonly P[] {
    const begin = this.#firstThat((piece) => piece.fit >= order);
    return this.#pieces.slice(begin, begin + count);
  }

  #indexOf(piece: P): number {
    return this.#firstThat((other) => !comesBefore(other, piece));
  }

  /** The first index at which `holds`, which is false up to there and true from there on. */
  #firstThat(holds: (piece: P) => boolean): number {
    let low = 0;
    let high = this.#pieces.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const piece = this.#pieces[middle];
      if (piece && !holds(piece)) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

export function comesBefore(a: FreePiece, b: FreePiece): boolean {
  if (a.fit !== b.fit) return a.fit < b.fit;
  if (a.restedSince !== b.restedSince) return a.restedSince < b.restedSince;
  if (a.slice !== b.slice) return a.slice < b.slice;
  return a.ports.first < b.ports.first;
}

/**
 * The highest aligned block of 2^order ports in the range. From the top, because then what is left below keeps its
 * first port, which is its key: a grant changes one row instead of replacing it.
 */
export function topBlock(range: PortRange, order: number): PortRange | undefined {
  const size = 2 ** order;
  const first = Math.floor((range.last + 1) / size) * size - size;
  return first >= range.first ? blockAt(first, order) : undefined;
}

/** How many aligned blocks of 2^order ports the range has. */
export function blocksIn(range: PortRange, order: number): number {
  const size = 2 ** order;
  return Math.max(0, Math.floor((range.last + 1) / size) - Math.ceil(range.first / size));
}

/** What is left of the range when the block is cut out: nothing, one piece or two, in order. */
export function without(range: PortRange, block: PortRange): readonly PortRange[] {
  if (!rangeContains(range, block))
    throw new Error(`${block.first}-${block.last} is not in ${range.first}-${range.last}`);
  const below = { first: range.first, last: block.first - 1 };
  const above = { first: block.last + 1, last: range.last };
  return [below, above].filter((piece) => piece.first <= piece.last);
}

export const fitOf = largestFit;
