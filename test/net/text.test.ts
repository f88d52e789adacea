import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { plainText, toPlainText } from '../../src/net/text.ts';

describe('plain text', () => {
  it.each(['', 'why not', 'größer "quoted" \\ 🐟', '\u2028', '\ufeff', '\uffff', "'); DROP TABLE leases; --"])(
    'may be %j',
    (text) => {
      expect(plainText.test(text)).toBe(true);
      expect(toPlainText(text, 100)).toBe(text);
    },
  );

  it.each(['\u0000', 'a\nb', 'a\tb', '\u007f', '\u0085', '\ud800', 'a\udc00b', '🐟\ud83d'])('may not be %j', (text) => {
    expect(plainText.test(text)).toBe(false);
  });

  it('can be made of any text, however it is cut', () => {
    const text = fc.string({ unit: fc.oneof(fc.constantFrom('\u0000', '\n', '\ud83d', '\udc1f', '🐟'), fc.string()) });
    fc.assert(
      fc.property(text, fc.nat(20), (said, units_max) => {
        const plain = toPlainText(said, units_max);
        expect(plainText.test(plain) && plain.isWellFormed()).toBe(true);
        expect(plain.length).toBe(Math.min(said.length, units_max));
      }),
    );
  });
});
