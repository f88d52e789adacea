import { expect, it } from 'vitest';
import { ClientCounts } from '../../src/terminate/client-counts.ts';

it('each client has its own number, and is forgotten with its last connection', () => {
  const counts = new ClientCounts();
  expect([counts.take('a', 2), counts.take('a', 2), counts.take('a', 2), counts.take('b', 2)]).toEqual([
    ...[true, true, false, true],
  ]);
  expect(counts.clients).toBe(2);
  counts.give('a');
  expect([counts.take('a', 2), counts.take('a', 2)]).toEqual([true, false]);
  counts.give('b');
  expect(counts.clients).toBe(1);
  expect(() => counts.give('b')).toThrow('b has no connection');
});
