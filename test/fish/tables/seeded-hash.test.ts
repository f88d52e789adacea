import { expect, test } from 'vitest';
import { SeededHash } from '../../../src/fish/tables/seeded-hash.ts';
import { seeded } from '../../support/fish.ts';

/** Keys that differ in the uppermost bits of one word, and, to make up for that, in any of those that a shift moves them to. */
function* aimedKeys(): Generator<readonly [number, number]> {
  for (let upper = 0; upper < 16; upper++)
    for (let top = 0; top < 16; top++)
      for (let middle = 0; middle < 64; middle++) yield [upper << 28, (top << 28) | (middle << 12)];
}

test.each([1, 2, 3, 4])('keys made to meet do not, whatever the seed (%i)', (seed) => {
  const hash = new SeededHash(4, seeded(seed));
  const seen = new Set<number>();
  let keys = 0;
  for (const [second, third] of aimedKeys()) {
    seen.add(hash.of4(0xc633_640a, second, third, 6));
    keys++;
  }
  // Of so many random numbers two are the same once in thirty times; of those made to meet half would be.
  expect(keys - seen.size).toBeLessThan(5);
});

test('every word counts, and the seed does', () => {
  const hash = new SeededHash(4, seeded(1));
  const keys = [
    hash.of4(0, 0, 0, 0),
    hash.of4(1, 0, 0, 0),
    hash.of4(0, 1, 0, 0),
    hash.of4(0, 0, 1, 0),
    hash.of4(0, 0, 0, 1),
    hash.of4(0x8000_0000, 0, 0, 0),
    hash.of2(1, 1),
    new SeededHash(4, seeded(2)).of4(0, 0, 0, 0),
  ];
  expect(new Set(keys).size).toBe(keys.length);
  for (const key of keys) expect(key).toBe(key >>> 0);
});
