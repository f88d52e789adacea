import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatInstant, parseInstant } from '../../src/wire/instants.ts';

describe('instants', () => {
  it('keep their microseconds through text', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 7_258_118_400_000_000 }), (us) => {
        expect(parseInstant(formatInstant(us))).toBe(us);
      }),
    );
  });

  it.each([
    ['2026-01-31T14:03:07Z', 1_769_868_187_000_000],
    ['2026-01-31T15:03:07.5+01:00', 1_769_868_187_500_000],
    ['2026-01-31T14:03:07.123456789Z', 1_769_868_187_123_456],
  ])('reads %s', (text, us) => {
    expect(parseInstant(text)).toBe(us);
  });

  it('gives NaN for what is no instant', () => {
    expect(parseInstant('yesterday')).toBeNaN();
  });
});
