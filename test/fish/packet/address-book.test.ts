import { fc, test } from '@fast-check/vitest';
import { describe, expect } from 'vitest';
import { AddressBook, NO_ADDRESS } from '../../../src/fish/packet/address-book.ts';
import { NOT_KNOWN, TCP, TCP6 } from '../../../src/fish/packet/packet.ts';
import type { Address } from '../../../src/net/address.ts';
import { seeded } from '../../support/fish.ts';

const capacity = 5;
const addresses = [
  '2001:db8::1',
  '2001:db8::2',
  '2001:db8:0:1::',
  '2001:db8::1:0:0:1',
  'fd00::1',
  '::1',
  'fd00::2',
].map((each) => each as Address);
const step = fc.record({ address: fc.constantFrom(...addresses), do: fc.constantFrom('hold', 'let_go', 'restart') });

describe('an address book', () => {
  test.prop([fc.array(step, { maxLength: 120 }), fc.integer()], { numRuns: 300 })(
    'counts who counts on an address, gives it one number for as long, and gives it to a successor',
    (steps, seed) => {
      const words = new Uint32Array((capacity + 1) * 4);
      let book = new AddressBook(words, seeded(seed));
      book.settle();
      const held = new Map<Address, { number: number; count: number }>();
      for (const { address, do: what } of steps) {
        const before = held.get(address);
        if (what === 'restart') {
          book = new AddressBook(words, seeded(seed + 1));
          for (const { number, count } of held.values())
            for (let i = 0; i < count; i++) expect(book.adopt(number)).toBe(true);
          book.settle();
        } else if (what === 'hold') {
          const number = book.holdText(address);
          if (!before && held.size === capacity) expect(number).toBe(NO_ADDRESS);
          else {
            expect(number).toBe(before?.number ?? number);
            expect(number).toBeGreaterThan(0);
            held.set(address, { number, count: (before?.count ?? 0) + 1 });
          }
        } else if (before) {
          book.letGo(before.number);
          if (before.count === 1) held.delete(address);
          else held.set(address, { ...before, count: before.count - 1 });
        }
        expect(book.count).toBe(held.size);
        for (const each of addresses) {
          expect(book.numberOf(each)).toBe(held.get(each)?.number ?? NOT_KNOWN);
          if (held.has(each)) expect(book.textOf(TCP6, held.get(each)!.number)).toBe(each);
        }
        expect(new Set([...held.values()].map(({ number }) => number)).size).toBe(held.size);
      }
    },
  );

  test('takes over no row that there is not, and no second one of the same address', () => {
    const words = new Uint32Array((capacity + 1) * 4);
    words.set([0x20010db8, 0, 0, 1], 4);
    words.set([0x20010db8, 0, 0, 1], 8);
    const book = new AddressBook(words, seeded(1));
    expect([0, capacity + 1, NOT_KNOWN].map((row) => book.adopt(row))).toEqual([false, false, false]);
    expect([book.adopt(1), book.adopt(2), book.adopt(1)]).toEqual([true, false, true]);
    expect(book.count).toBe(1);
  });

  test('throws when somebody lets go of what is not held: that is a bug', () => {
    const book = new AddressBook(new Uint32Array(8), seeded(1));
    expect(() => book.letGo(1)).toThrow('address 1 is not held');
  });

  test('without room knows no address, and takes none', () => {
    const book = new AddressBook(new Uint32Array(0), seeded(1));
    book.settle();
    expect(book.holdText(addresses[0]!)).toBe(NO_ADDRESS);
    expect(book.numberOf(addresses[0]!)).toBe(NOT_KNOWN);
    expect(() => book.holdText('192.0.2.1' as Address)).toThrow('not an IPv6 address');
  });

  test('has nothing to look up for an IPv4 address, which is a number by itself', () => {
    const book = new AddressBook(new Uint32Array(0), seeded(1));
    expect(book.numberOf('192.0.2.1' as Address)).toBe(0xc0000201);
    expect(book.textOf(TCP, 0xc0000201)).toBe('192.0.2.1');
  });
});
