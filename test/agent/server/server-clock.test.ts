import { beforeEach, describe, expect, it } from 'vitest';
import { ServerClock } from '../../../src/agent/server/server-clock.ts';
import { formatInstant, parseInstant } from '../../../src/wire/instants.ts';

/** Of the server, when this host had been up for nothing. */
const base = parseInstant('2026-01-31T14:00:00.000000Z');
let ms: number;
let clock: ServerClock;
beforeEach(() => {
  ms = 5_000;
  clock = new ServerClock(() => ms);
});
/** Read by the server when this host was up for `readAt`, and heard of in so long a round trip. */
const hear = (readAt: number, sentAt: number, receivedAt: number) => {
  ms = receivedAt;
  clock.hear(formatInstant(base + readAt * 1_000), sentAt, receivedAt);
};
const errorMs = () => ((clock.nowUs() ?? NaN) - base) / 1_000 - ms;

describe("the server's clock", () => {
  it('is not known before the server has said', () => {
    expect(clock.nowUs()).toBeUndefined();
  });

  it('is known to half of the round trip, and goes on by the time since the start of the host', () => {
    hear(5_000, 5_000, 5_400);
    expect(errorMs()).toBe(-200 + 0);
    ms = 90_000;
    expect(errorMs()).toBe(-200);
  });

  it('is known better by an answer that came sooner, and no worse by one that came late', () => {
    hear(5_000, 5_000, 5_400);
    hear(6_010, 6_000, 6_020);
    expect(Math.abs(errorMs())).toBeLessThanOrEqual(10);
    const before = errorMs();
    hear(8_000, 7_000, 12_000);
    expect(errorMs()).toBe(before);
  });

  it('is set anew where what was known cannot be true', () => {
    hear(5_000, 5_000, 5_010);
    hear(3_606_000, 6_000, 6_010);
    expect(errorMs()).toBeGreaterThan(3_599_000);
  });
});
