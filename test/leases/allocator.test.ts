import { fc, test } from '@fast-check/vitest';
import { describe, expect, it } from 'vitest';
import { portCount, rangeContains, type PortRange } from '../../src/net/ports.ts';
import { blocksIn, fitOf, PieceQueue, topBlock, without, type FreePiece } from '../../src/leases/allocator.ts';

const range = fc
  .tuple(fc.integer({ min: 0, max: 65_535 }), fc.integer({ min: 0, max: 65_535 }))
  .map(([a, b]): PortRange => ({ first: Math.min(a, b), last: Math.max(a, b) }));
const order = fc.integer({ min: 0, max: 16 });

describe('the block that is cut', () => {
  it.each([
    ['the whole', 0, 1_023, 10, '0-1023'],
    ['the top of an aligned range', 2_048, 4_095, 7, '3968-4095'],
    ['below a ragged top', 1_000, 1_100, 6, '1024-1087'],
    ['a single port', 5, 5, 0, '5-5'],
    ['no room for one', 1_000, 1_100, 7, 'none'],
    ['room for its size, but not aligned', 1, 128, 7, 'none'],
    ['the whole port space', 0, 65_535, 16, '0-65535'],
  ])('is %s', (_, first, last, size, expected) => {
    const block = topBlock({ first, last }, size);
    expect(block ? `${block.first}-${block.last}` : 'none').toBe(expected);
  });

  test.prop([range, order])('is the highest aligned one, or there is none', (free, size) => {
    const naive = [];
    for (let first = 0; first <= 65_535; first += 2 ** size)
      if (first >= free.first && first + 2 ** size - 1 <= free.last) naive.push(first);
    expect(topBlock(free, size)?.first).toBe(naive.at(-1));
    expect(blocksIn(free, size)).toBe(naive.length);
    expect(fitOf(free) >= size).toBe(naive.length > 0);
  });

  test.prop([range, order])('leaves what was around it, and nothing else', (free, size) => {
    const block = topBlock(free, size);
    if (!block) return;
    const rest = without(free, block);
    expect(rest.reduce((sum, piece) => sum + portCount(piece), portCount(block))).toBe(portCount(free));
    expect([...rest, block].every((piece) => rangeContains(free, piece))).toBe(true);
    expect(rest.every((piece) => piece.last < block.first || piece.first > block.last)).toBe(true);
  });

  it('must be inside', () => {
    expect(() => without({ first: 10, last: 20 }, { first: 16, last: 31 })).toThrow('16-31 is not in 10-20');
  });
});

describe('the piece that is chosen', () => {
  const piece = (slice: number, first: number, fit: number, restedSince: number): FreePiece => ({
    slice,
    ports: { first, last: first },
    fit,
    restedSince,
  });

  it.each([
    ['the tightest', [piece(1, 0, 9, 5), piece(1, 8, 7, 9), piece(1, 16, 8, 1)], 7, '1/8'],
    ['the longest rested among these', [piece(1, 0, 7, 5), piece(1, 8, 7, 3), piece(1, 16, 7, 4)], 7, '1/8'],
    ['then the older slice', [piece(2, 0, 7, 5), piece(1, 8, 7, 5)], 7, '1/8'],
    ['then the lower ports', [piece(1, 16, 7, 5), piece(1, 8, 7, 5)], 7, '1/8'],
    ['none that is too small', [piece(1, 0, 6, 5)], 7, 'none'],
    ['none of none', [], 0, 'none'],
  ])('is %s', (_, pieces, size, expected) => {
    const queue = new PieceQueue<FreePiece>();
    for (const free of pieces) queue.add(free);
    const chosen = queue.choose(size);
    expect(chosen ? `${chosen.slice}/${chosen.ports.first}` : 'none').toBe(expected);
  });

  const pieces = fc.array(
    fc
      .tuple(...[3, 3, 4, 3].map((max) => fc.integer({ min: 0, max })))
      .map(([a = 0, b = 0, c = 0, d = 0]) => piece(a, b, c, d)),
    { maxLength: 40 },
  );
  test.prop([pieces, pieces, fc.integer({ min: 0, max: 5 })])(
    'is what looking at all of them finds',
    (added, removed, size) => {
      const queue = new PieceQueue<FreePiece>();
      const placeOf = ({ slice, ports }: FreePiece) => `${slice}/${ports.first}`;
      const left = new Map(added.map((free) => [placeOf(free), free]));
      for (const free of left.values()) queue.add(free);
      for (const free of removed) {
        const there = left.get(placeOf(free));
        left.delete(placeOf(free));
        queue.remove(there ?? free);
      }
      const naive = [...left.values()]
        .filter(({ fit }) => fit >= size)
        .sort(
          (a, b) =>
            a.fit - b.fit || a.restedSince - b.restedSince || a.slice - b.slice || a.ports.first - b.ports.first,
        );
      expect(queue.choose(size)).toEqual(naive[0]);
    },
  );
});
