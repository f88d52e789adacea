import { expect, it } from 'vitest';
import { TokenBuckets } from '../../../src/fish/tables/token-buckets.ts';

const spent = (buckets: TokenBuckets, row: number, nowMs: number): number => {
  let count = 0;
  while (buckets.spend(row, nowMs)) count++;
  return count;
};

it('buckets have so many at once, and as many a second, each for itself', () => {
  const buckets = new TokenBuckets(2, 4);
  expect([spent(buckets, 0, 0), spent(buckets, 0, 249), spent(buckets, 0, 251)]).toEqual([4, 0, 1]);
  expect(spent(buckets, 1, 251)).toBe(4);
  expect(spent(buckets, 0, 60_000)).toBe(4);
});

it('a bucket that begins anew is full, and fills from then on', () => {
  const buckets = new TokenBuckets(1, 2);
  expect(spent(buckets, 0, 1_000)).toBe(2);
  buckets.begin(0, 1_000);
  expect([spent(buckets, 0, 1_000), spent(buckets, 0, 1_400), buckets.left(0, 1_400)]).toEqual([2, 0, 0.8]);
});

it('none is to be had where there are none', () => {
  expect(spent(new TokenBuckets(1, 0), 0, 1_000_000)).toBe(0);
});
