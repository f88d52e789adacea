import { fc, test } from '@fast-check/vitest';
import { describe, expect, it } from 'vitest';
import {
  freshMemory,
  planLeases,
  type AddedLease,
  type ClaimUse,
  type GrowthMemory,
  type GrowthPolicy,
} from '../../../src/agent/leases/lease-growth.ts';

const policy: GrowthPolicy = {
  ...{ ports_max: 128, high_water: 0.8, low_water: 0.3, step_ports: 16, hold_s: 10, drain_s: 60 },
};
const added = (lease: string, more: Partial<AddedLease> = {}): AddedLease => ({
  ...{ lease, ports: 16, flows: 0, drainingSince: null },
  ...more,
});
const use = (busiest: number, more: Partial<ClaimUse> = {}): ClaimUse => ({
  ...{ base: 16, elsewhere: 0, busiest, refused: 0 },
  ...more,
});
const at = (now: number, given: ClaimUse, leases: readonly AddedLease[] = [], memory: GrowthMemory = freshMemory) =>
  planLeases(given, leases, policy, memory, now);

describe('leases grow', () => {
  it.each([
    [12, 0],
    [13, 1],
    [26, 2],
    [100, 7],
    [10_000, 7],
  ])('with %i flows toward the busiest destination, by %i steps', (busiest, steps) => {
    expect(at(0, use(busiest)).grow).toBe(steps);
  });

  it('by no more than eight at once', () => {
    const large = { ...policy, ports_max: 10_000 };
    expect(planLeases(use(5_000), [], large, freshMemory, 0).grow).toBe(8);
  });

  it('less where other claims have ports of the protocol', () => {
    expect(at(0, use(13, { elsewhere: 16 })).grow).toBe(0);
    expect(at(0, use(26, { elsewhere: 16 })).grow).toBe(1);
  });

  it('not before the server may be asked again, nor beyond the most that they may have', () => {
    const memory = { ...freshMemory, retryAt: 5_000 };
    expect(at(4_999, use(16), [], memory)).toMatchObject({ grow: 0, isPressed: true, atMax: false });
    expect(at(5_000, use(16), [], memory).grow).toBe(1);
    const full = Array.from({ length: 7 }, (_, i) => added(`lease-${i}`));
    expect(at(0, use(128), full)).toMatchObject({ grow: 0, isPressed: true, atMax: true });
  });

  it('for refused flows only when these are new', () => {
    expect(at(0, use(1, { refused: 9 }))).toMatchObject({ grow: 0, memory: { refused: 9 } });
    expect(at(0, use(1, { refused: 9 }), [], { ...freshMemory, refused: 9 }).grow).toBe(0);
    expect(at(0, use(1, { refused: 10 }), [], { ...freshMemory, refused: 9 }).grow).toBe(1);
    // Fish is another one, and counts anew.
    expect(at(0, use(1, { refused: 2 }), [], { ...freshMemory, refused: 9 })).toMatchObject({
      ...{ grow: 0, memory: { refused: 2 } },
    });
  });
});

describe('leases shrink', () => {
  const three = [added('a', { flows: 5 }), added('b', { flows: 2 }), added('c', { flows: 9 })];

  it('by the one with the fewest flows, after use was low for long enough', () => {
    const first = at(1_000, use(10), three);
    expect(first).toMatchObject({ drain: null, memory: { lowSince: 1_000 } });
    expect(at(10_999, use(10), three, first.memory).drain).toBeNull();
    expect(at(11_000, use(10), three, first.memory)).toMatchObject({ drain: 'b', memory: { lowSince: 11_000 } });
  });

  it('not when use was higher in between, nor by two at once', () => {
    const low = { ...freshMemory, lowSince: 0 };
    expect(at(20_000, use(30), three, low).memory.lowSince).toBeNull();
    expect(at(20_000, use(10), [...three, added('d', { drainingSince: 1, flows: 1 })], low).drain).toBeNull();
  });

  it('only as far as leaves room: the first lease stays, whatever is used', () => {
    const low = { ...freshMemory, lowSince: 0 };
    expect(at(20_000, use(8), [added('a')], low).drain).toBe('a');
    expect(at(20_000, use(0), [], low).drain).toBeNull();
    // Nine of the sixteen that would be left is more than the middle of both marks.
    expect(at(20_000, use(9), [added('a')], low).drain).toBeNull();
    expect(at(20_000, use(9), [added('a', { ports: 64 })], low).drain).toBeNull();
  });

  it('give back what is drained, or has had time to', () => {
    const draining = [
      added('empty', { drainingSince: 0 }),
      added('busy', { drainingSince: 0, flows: 1 }),
      added('open', { flows: 0 }),
    ];
    expect(at(1_000, use(0), draining).release).toEqual(['empty']);
    expect(at(60_000, use(0), draining).release).toEqual(['empty', 'busy']);
  });

  it('not when ports are short: what drains gets new flows again', () => {
    const draining = [added('small', { ports: 8, drainingSince: 0 }), added('large', { drainingSince: 0 })];
    expect(at(1_000, use(16), draining)).toMatchObject({ reopen: 'large', release: [], grow: 0 });
  });
});

test.prop([fc.nat({ max: 200 }), fc.nat({ max: 6 })], { numRuns: 300 })(
  'steady use comes to rest, with enough ports and no swinging',
  (busiest, leasesAtFirst) => {
    let leases = Array.from({ length: leasesAtFirst }, (_, i) => added(`lease-${i}`));
    let memory: GrowthMemory = freshMemory;
    let next = 100;
    const history: number[] = [];
    for (let now = 0; now < 400_000; now += 1_000) {
      const plan = planLeases(use(busiest), leases, policy, memory, now);
      memory = plan.memory;
      leases = leases
        .filter(({ lease }) => !plan.release.includes(lease))
        .map((each) => (each.lease === plan.drain ? { ...each, drainingSince: now } : each))
        .map((each) => (each.lease === plan.reopen ? { ...each, drainingSince: null } : each));
      for (let step = 0; step < plan.grow; step++) leases = [...leases, added(`lease-${next++}`)];
      history.push(leases.length);
    }
    const ports = 16 + 16 * leases.length;
    expect(ports).toBeLessThanOrEqual(128);
    expect(busiest < 0.8 * ports || ports === 128).toBe(true);
    // Nothing has changed for a long time.
    expect(new Set(history.slice(-100)).size).toBe(1);
  },
);
