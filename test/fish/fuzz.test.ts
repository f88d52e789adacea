import { randomInt } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { fuzz } from '../support/fuzz.ts';

describe('mutated packets neither crash fish, nor leave anything behind, nor are summed wrong', () => {
  const random = randomInt(2 ** 31);
  test.each([
    ['the same each time', 1],
    ['others each time', random],
  ])(`50,000 of them, %s (seed %i; npm run fuzz has more)`, (_which, seed) => {
    const { forwarded, right, held, lowered, drops } = fuzz(seed, 50_000);
    // It has to get past the first look at the header to mean anything.
    expect(forwarded).toBeGreaterThan(5_000);
    expect(right).toBeGreaterThan(2_500);
    expect(held).toBeGreaterThan(100);
    expect(lowered).toBeGreaterThan(100);
    expect(Object.keys(drops).length).toBeGreaterThan(20);
  });
});
