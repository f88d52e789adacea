import { expect, it } from 'vitest';
import { Slots } from '../../src/keeper/slots.ts';

it('slots are handed out from the lowest on, each once, until none is left', () => {
  const slots = new Slots(3);
  expect([slots.take(), slots.take(), slots.take(), slots.take()]).toEqual([0, 1, 2, undefined]);
  slots.give(1);
  expect([slots.used, slots.take(), slots.take()]).toEqual([2, 1, undefined]);
});

it('slots that a keeper holds already are left out until they are given back, and then come once', () => {
  const slots = new Slots(5, [0, 3]);
  slots.give(3);
  expect([slots.take(), slots.take()]).toEqual([1, 2]);
  slots.give(0);
  expect([slots.take(), slots.take(), slots.take(), slots.take()].toSorted()).toEqual([0, 3, 4, undefined]);
  expect(slots.used).toBe(5);
});

it('giving back what nobody has is a bug', () => {
  const slots = new Slots(2);
  expect(() => slots.give(0)).toThrow('slot 0 is not in use');
});
