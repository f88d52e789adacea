import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  blockAt,
  blockMask,
  ceilLog2,
  formatPorts,
  isAlignedBlock,
  isPowerOfTwo,
  largestFit,
  lowestFit,
  parsePorts,
  portCount,
  rangeContains,
  rangesOverlap,
  type PortRange,
} from '../../src/net/ports.ts';

const port = fc.integer({ min: 0, max: 65_535 });
const range = fc.tuple(port, port).map(([a, b]): PortRange => ({ first: Math.min(a, b), last: Math.max(a, b) }));

describe('port ranges', () => {
  it('overlap exactly when some port is in both', () => {
    const small = fc
      .tuple(fc.nat(40), fc.nat(40))
      .map(([a, b]): PortRange => ({ first: Math.min(a, b), last: Math.max(a, b) }));
    const ports = (r: PortRange) => Array.from({ length: portCount(r) }, (_, i) => r.first + i);
    fc.assert(
      fc.property(small, small, (a, b) => {
        const both = ports(a).filter((p) => ports(b).includes(p));
        expect(rangesOverlap(a, b)).toBe(both.length > 0);
        expect(rangeContains(a, b)).toBe(both.length === portCount(b));
      }),
    );
  });

  it('are printed and read in one way', () => {
    fc.assert(
      fc.property(range, (r) => {
        expect(parsePorts(formatPorts(r))).toEqual({ ok: true, value: r });
      }),
    );
    for (const text of ['', '9-', '10-9', '65536', '1-65536', '-1', '1 - 2']) expect(parsePorts(text).ok).toBe(false);
  });
});

describe('aligned blocks', () => {
  it('that fit are aligned, inside, and the lowest of their size', () => {
    fc.assert(
      fc.property(range, fc.nat(16), (r, order) => {
        const first = lowestFit(r, order);
        const all = Array.from({ length: 65_536 / 2 ** order }, (_, i) => blockAt(i * 2 ** order, order));
        const inside = all.filter((block) => rangeContains(r, block));
        expect(first).toBe(inside[0]?.first);
        if (first !== undefined) expect(isAlignedBlock(blockAt(first, order))).toBe(true);
      }),
      { numRuns: 60 },
    );
  });

  it('of the largest fit exist, and none of twice the size does', () => {
    fc.assert(
      fc.property(range, (r) => {
        const order = largestFit(r);
        expect(lowestFit(r, order)).toBeDefined();
        expect(lowestFit(r, order + 1)).toBeUndefined();
      }),
    );
  });

  it('are told by their mask from every port outside', () => {
    fc.assert(
      fc.property(port, fc.nat(16), port, (p, order, other) => {
        const size = 2 ** order;
        const first = p & blockMask(size);
        expect((other & blockMask(size)) === first).toBe(
          rangeContains(blockAt(first, order), { first: other, last: other }),
        );
      }),
    );
  });

  it('have sizes that are powers of two', () => {
    expect([1, 2, 4, 128, 65_536].every(isPowerOfTwo)).toBe(true);
    expect([0, -2, 3, 1.5, 129, Number.NaN].some(isPowerOfTwo)).toBe(false);
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 65_536 }), (n) => {
        expect(2 ** ceilLog2(n)).toBeGreaterThanOrEqual(n);
        expect(ceilLog2(n) === 0 || 2 ** (ceilLog2(n) - 1) < n).toBe(true);
      }),
    );
  });
});
