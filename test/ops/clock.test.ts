import { expect, it } from 'vitest';
import { SteadyClock } from '../../src/ops/clock.ts';

/** A machine whose two clocks are moved by hand. */
function machine() {
  const at = { wallMs: 1_700_000_000_000, steadyMs: 5000.25 };
  return { at, clock: new SteadyClock({ wallMs: () => at.wallMs, steadyMs: () => at.steadyMs }) };
}

it('starts at the wall clock, in whole microseconds', () => {
  expect(machine().clock.nowUs()).toBe(1_700_000_000_000_000);
});

it('counts fractions of a millisecond', () => {
  const { at, clock } = machine();
  at.steadyMs += 0.002;
  expect(clock.nowUs()).toBe(1_700_000_000_000_002);
});

it.each([
  ['back', -3_600_000],
  ['ahead', 3_600_000],
])('does not follow when somebody sets the time %s, and says by how much', (_direction, stepMs) => {
  const { at, clock } = machine();
  at.steadyMs += 10;
  at.wallMs += 10 + stepMs;
  expect(clock.nowUs()).toBe(1_700_000_000_010_000);
  expect(clock.steppedUs()).toBe(stepMs * 1000);
});

it('never goes backwards, even if the steady clock should', () => {
  const { at, clock } = machine();
  const before = clock.nowUs();
  at.steadyMs -= 50;
  expect(clock.nowUs()).toBe(before);
});

it('tells the time of this machine', () => {
  const clock = new SteadyClock();
  const readings = Array.from({ length: 1000 }, () => clock.nowUs());
  expect(readings.every(Number.isSafeInteger)).toBe(true);
  expect(readings).toEqual(readings.toSorted((a, b) => a - b));
  expect(Math.abs(clock.nowUs() / 1000 - Date.now())).toBeLessThan(1000);
});
