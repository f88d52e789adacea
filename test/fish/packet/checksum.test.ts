import { fc, test } from '@fast-check/vitest';
import { describe, expect } from 'vitest';
import { delta16, delta32, fold, sumOf, updated, updatedPartial } from '../../../src/fish/packet/checksum.ts';
import { onesComplementSum } from '../../support/packets.ts';

const viewOf = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
const word = fc.nat({ max: 0xffff });
const doubleWord = fc.nat({ max: 0xffff_ffff });
/** The same number in one's complement: its two zeros are one. */
const canonical = (sum: number) => sum % 0xffff;

describe('the Internet checksum', () => {
  test.prop([fc.uint8Array({ maxLength: 300 }), fc.nat({ max: 5 })])(
    'sums words, and an odd last byte',
    (bytes, start) => {
      const from = Math.min(start, bytes.length);
      expect(sumOf(viewOf(bytes), from, bytes.length)).toBe(onesComplementSum(bytes.subarray(from)));
    },
  );

  test('sums the largest packet without losing a carry', () => {
    const bytes = new Uint8Array(65_535).fill(0xff);
    expect(sumOf(viewOf(bytes), 0, bytes.length)).toBe(onesComplementSum(bytes));
  });

  test.prop([fc.nat({ max: 0xffff_ffff })])('folds to 0 only what is 0', (sum) => {
    expect(fold(sum) === 0).toBe(sum === 0);
    expect(canonical(fold(sum))).toBe(canonical(sum));
  });

  test('is updated as in the example of RFC 1624, where equation 2 gives the wrong zero', () => {
    // A checksum of 0xdd2f, a word that goes from 0x5555 to 0x3285: 0x0000, not 0xffff.
    expect(updated(0xdd2f, delta16(0x5555, 0x3285))).toBe(0x0000);
  });

  test.prop([fc.uint8Array({ minLength: 8, maxLength: 60 }), doubleWord, fc.nat({ max: 6 })])(
    'updated for a changed address is the one summed anew',
    (given, address, place) => {
      const bytes = given.length % 2 === 0 ? given : given.slice(1);
      const at = Math.min(place - (place % 2), bytes.length - 4);
      // Without a word that is not 0 there is nothing to tell the two zeros apart by; a real header has its version.
      const before = Uint8Array.from([0x45, 0, ...bytes]);
      const view = viewOf(before);
      const checksum = 0xffff - onesComplementSum(before);
      const delta = delta32(view.getUint32(at + 2), address);
      view.setUint32(at + 2, address);
      expect(updated(checksum, delta)).toBe(0xffff - onesComplementSum(before));
    },
  );

  test.prop([word, doubleWord, doubleWord, word, word])(
    'is as wrong after an update as it was before',
    (checksum, oldAddress, newAddress, oldPort, newPort) => {
      const there = updated(updated(checksum, delta32(oldAddress, newAddress)), delta16(oldPort, newPort));
      const back = updated(updated(there, delta32(newAddress, oldAddress)), delta16(newPort, oldPort));
      expect(canonical(back)).toBe(canonical(checksum));
    },
  );

  test.prop([doubleWord, doubleWord, doubleWord])(
    'that is only begun moves with the pseudo-header',
    (kept, before, after) => {
      const sum = (address: number) =>
        onesComplementSum([kept, address].flatMap((each) => [24, 16, 8, 0].map((shift) => (each >>> shift) & 255)));
      expect(canonical(updatedPartial(sum(before), delta32(before, after)))).toBe(canonical(sum(after)));
    },
  );
});
