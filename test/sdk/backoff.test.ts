import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { backoffMs, pause } from '../../src/sdk/backoff.ts';

describe('the wait between attempts', () => {
  it('doubles up to its bound', () => {
    const waits = [1, 2, 3, 4, 5].map((attempt) => backoffMs({ firstMs: 100, maxMs: 500, random: () => 0 }, attempt));
    expect(waits).toEqual([50, 100, 200, 250, 250]);
  });

  it('lies in the upper half of what is allowed, for any attempt', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 100_000 }),
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        (attempt, draw) => {
          const wait = backoffMs({ firstMs: 100, maxMs: 5_000, random: () => draw }, attempt);
          expect(wait).toBeGreaterThanOrEqual(50);
          expect(wait).toBeLessThanOrEqual(5_000);
        },
      ),
    );
  });

  it("ends early with the signal's own reason", async () => {
    const controller = new AbortController();
    const reason = new Error('enough');
    setTimeout(() => controller.abort(reason), 10);
    await expect(pause(60_000, controller.signal)).rejects.toBe(reason);
    await expect(pause(60_000, controller.signal)).rejects.toBe(reason);
  });
});
