import { fc, test } from '@fast-check/vitest';
import { describe, expect } from 'vitest';
import { NOTHING_DUE, NOT_YET, TimingWheel } from '../../../src/fish/tables/timing-wheel.ts';

const capacity = 8;
const tickMs = 500;
const spanMs = 10_000;

function dueAt(wheel: TimingWheel, nowMs: number): number[] {
  const due: number[] = [];
  for (;;) {
    const flow = wheel.step(nowMs);
    if (flow === NOTHING_DUE) return due;
    if (flow !== NOT_YET) due.push(flow);
  }
}

const command = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('schedule' as const),
      flow: fc.nat({ max: capacity - 1 }),
      inMs: fc.nat({ max: 30_000 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('cancel' as const), flow: fc.nat({ max: capacity - 1 }) }) },
  // A minute is several turns of this wheel.
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('pass' as const),
      ms: fc.oneof(fc.nat({ max: 900 }), fc.nat({ max: 60_000 })),
    }),
  },
);

describe('the timing wheel', () => {
  test.prop([fc.array(command, { maxLength: 80 }), fc.nat({ max: 100_000 })], { numRuns: 500 })(
    'finds everything that is due within a tick, and nothing before',
    (commands, startMs) => {
      const wheel = new TimingWheel(new Float64Array(capacity), tickMs, spanMs);
      const deadlines = new Map<number, number>();
      let nowMs = startMs;
      for (const each of commands) {
        if (each.do === 'schedule') {
          wheel.schedule(each.flow, nowMs + each.inMs, nowMs);
          deadlines.set(each.flow, nowMs + each.inMs);
        } else if (each.do === 'cancel') {
          wheel.cancel(each.flow);
          deadlines.delete(each.flow);
        } else {
          nowMs += each.ms;
          for (const flow of dueAt(wheel, nowMs)) {
            expect(deadlines.get(flow)).toBeLessThanOrEqual(nowMs);
            deadlines.delete(flow);
          }
          for (const deadlineMs of deadlines.values()) expect(deadlineMs).toBeGreaterThan(nowMs - 2 * tickMs);
        }
      }
      const rest = dueAt(wheel, nowMs + 2 * spanMs + 40_000);
      expect(rest.toSorted()).toEqual([...deadlines.keys()].toSorted());
    },
  );

  test('does one flow per step, however many are due', () => {
    const wheel = new TimingWheel(new Float64Array(3), tickMs, spanMs);
    for (const flow of [0, 1, 2]) wheel.schedule(flow, 1_000, 0);
    const steps = Array.from({ length: 4 }, () => wheel.step(2_000));
    expect(steps.toSorted()).toEqual([NOTHING_DUE, 0, 1, 2]);
  });

  test('does not move a flow about that is put off again and again', () => {
    const wheel = new TimingWheel(new Float64Array(1), tickMs, spanMs);
    for (let nowMs = 0; nowMs < 5_000; nowMs += 10) wheel.schedule(0, nowMs + 5_000, nowMs);
    // It was linked once, at 5 s, and moves on from there once.
    expect([wheel.step(6_000), wheel.step(6_000)]).toEqual([NOT_YET, NOTHING_DUE]);
    expect(wheel.step(12_000)).toBe(0);
  });

  test('brings a deadline forward', () => {
    const wheel = new TimingWheel(new Float64Array(1), tickMs, spanMs);
    wheel.schedule(0, 9_000, 0);
    wheel.schedule(0, 1_000, 0);
    expect(dueAt(wheel, 2_000)).toEqual([0]);
    expect(dueAt(wheel, 20_000)).toEqual([]);
  });
});
