import { randomInt } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { fuzz } from '../support/fuzz.ts';

/** By the last bits of a seed, in all ways in which TCP can be mapped and UDP be filtered. */
const always = [0, 1, 2, 3];

describe('mutated packets neither crash fish, nor leave anything behind, nor are summed wrong', () => {
  const random = randomInt(2 ** 31);
  test.each([
    ['the same each time', always, 12_500],
    ['others each time', [random], 50_000],
  ])('50,000 of them, %s (seeds %j; npm run fuzz has more)', (_which, seeds, packets) => {
    const reports = seeds.map((seed) => fuzz(seed, packets));
    const sumOf = (what: 'forwarded' | 'right' | 'held' | 'lowered') =>
      reports.reduce((sum, report) => sum + report[what], 0);
    // It has to get past the first look at the header to mean anything.
    expect(sumOf('forwarded')).toBeGreaterThan(5_000);
    expect(sumOf('right')).toBeGreaterThan(2_500);
    expect(sumOf('held')).toBeGreaterThan(100);
    expect(sumOf('lowered')).toBeGreaterThan(100);
    const reasons = new Set(reports.flatMap(({ drops }) => Object.keys(drops)));
    expect(reasons.size).toBeGreaterThan(20);
    // What is rare may be missing with one seed alone.
    if (seeds.length === 1) return;
    // Whole and in pieces, to the outside, from there, and from client to client; and what is said about all of it.
    const kinds = [...new Set(reports.flatMap((report) => Object.keys(report.kinds)))];
    for (const way of ['out', 'in', 'between clients']) {
      expect(kinds).toEqual(expect.arrayContaining([`${way} packet`, `${way} fragment`]));
      for (const family of [4, 6]) {
        const errors = kinds.filter((kind) => kind.startsWith(`${way} error of IPv${family}`));
        expect(errors.length, `${way}, IPv${family}`).toBeGreaterThan(way === 'between clients' ? 0 : 10);
      }
    }
  });
});
