import { fc, test } from '@fast-check/vitest';
import { expect } from 'vitest';
import { LeaseNames } from '../../../src/fish/log/lease-names.ts';

test.prop([fc.array(fc.tuple(fc.constantFrom('a', 'b', 'c', 'd'), fc.boolean()), { maxLength: 60 })])(
  'a lease keeps its number while anything names it, and no number is wasted',
  (steps) => {
    const names = new LeaseNames();
    const held = new Map<string, number[]>();
    for (const [name, add] of steps) {
      const numbers = held.get(name) ?? [];
      held.set(name, numbers);
      if (add) numbers.push(names.hold(name));
      else if (numbers.length > 0) names.letGo(numbers.pop()!);
      const named = [...held].filter(([, each]) => each.length > 0);
      expect(names.count).toBe(named.length);
      for (const [lease, each] of named) {
        expect(new Set(each).size).toBe(1);
        expect(names.nameOf(each[0]!)).toBe(lease);
        expect(each[0]).toBeLessThan(4);
      }
    }
  },
);
