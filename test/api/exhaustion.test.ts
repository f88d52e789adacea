import { describe, expect, it } from 'vitest';
import { Exhaustion } from '../../src/api/metrics/exhaustion.ts';

const minute = 60_000_000;

/** What is left after samples of what is used, one a minute, of 1,000 ports. */
function leftAfter(used: readonly number[]): number | undefined {
  const exhaustion = new Exhaustion();
  const samples = used.map((count, index) => ({ at: index * minute, used: count, free: 1_000 - count }));
  for (const sample of samples) exhaustion.note(sample);
  return exhaustion.secondsLeft(samples.at(-1) ?? { at: 0, used: 0, free: 0 });
}

describe('the time to exhaustion', () => {
  it.each([
    ['ten ports a minute, 900 left', [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100], 5_400],
    ['no rise', [500, 500, 500], Infinity],
    ['a fall', [500, 400, 300], Infinity],
    ['nothing free', [1_000, 1_000], 0],
    ['too little known', [10], undefined],
  ] as const)('is told from the recent rate: %s', (_what, used, seconds) => {
    const left = leftAfter(used);
    expect(left === undefined || left === Infinity ? left : Math.round(left)).toBe(seconds);
  });

  it('forgets what is longer ago than a quarter of an hour', () => {
    const burst = [0, 800];
    const quiet = Array.from({ length: 20 }, () => 800);
    expect(leftAfter([...burst, ...quiet])).toBe(Infinity);
    expect(leftAfter(burst)).toBe(15);
  });
});
