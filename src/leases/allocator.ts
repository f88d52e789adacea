import { blockAt, largestFit, rangeContains, type PortRange } from '../net/ports.ts';

/**
 * The choice of ports: arithmetic over free pieces. It knows nothing of leases, holders, time or states, which is why it
 * can be checked against a naive one on random input.
 */
export type FreePiece = Readonly<{ slice: number; ports: PortRange; fit: number; restedSince: number }>;

/**
 * The piece to take a block of 2^order ports from: the tightest fit, so that large pieces stay large for large leases;
 * among equals the one that rested longest, so that late packets of earlier users find nobody. The rest of the order
 * only makes the answer the same wherever it is computed.
 */
export function choosePiece<P extends FreePiece>(pieces: Iterable<P>, order: number): P | undefined {
  let best: P | undefined;
  for (const piece of pieces) if (piece.fit >= order && (!best || comesBefore(piece, best))) best = piece;
  return best;
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

/** What is left of the range when the block is cut out: nothing, one piece or two, in order. */
export function without(range: PortRange, block: PortRange): readonly PortRange[] {
  if (!rangeContains(range, block))
    throw new Error(`${block.first}-${block.last} is not in ${range.first}-${range.last}`);
  const below = { first: range.first, last: block.first - 1 };
  const above = { first: block.last + 1, last: range.last };
  return [below, above].filter((piece) => piece.first <= piece.last);
}

export const fitOf = largestFit;
