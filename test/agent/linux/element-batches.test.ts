import { describe, expect, it } from 'vitest';
import { inBatches } from '../../../src/agent/linux/element-batches.ts';
import type { Element } from '../../../src/agent/host/sets.ts';

const setsOfLease = ['own_uid_tcp4_128', 'own_tcp4_128', 'in_cgroup_tcp4_128'];
const leases = (count: number): readonly Element[] =>
  setsOfLease.flatMap((set) =>
    Array.from({ length: count }, (_, index) => ({
      set,
      key: `198.51.100.10 . ${1_024 + 128 * index}${set.includes('uid') ? ' . 1000' : ''}`,
    })),
  );

describe('changes of elements', () => {
  it('are one transaction as long as they fit, whatever the sets', () => {
    expect(inBatches(leases(5), leases(3), 24)).toHaveLength(1);
    expect(inBatches([], [])).toEqual([]);
  });

  it('are never cut within what belongs to one block', () => {
    const batches = inBatches(leases(20), leases(10), 7);
    const all = batches.flatMap((batch) => batch.flatMap(({ change, elements }) => elements.map((e) => [change, e])));
    expect(all).toHaveLength(90);
    const batchOf = new Map<string, number>();
    for (const [index, batch] of batches.entries()) {
      expect(batch.reduce((sum, { elements }) => sum + elements.length, 0)).toBeLessThanOrEqual(7);
      for (const { key } of batch.flatMap(({ elements }) => elements)) {
        const block = key.split(' . ').slice(0, 2).join(':');
        expect(batchOf.get(block) ?? index).toBe(index);
        batchOf.set(block, index);
      }
    }
  });
});
