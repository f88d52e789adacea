import { describe, expect, it } from 'vitest';
import { connectSeconds, Destinations, type DestinationOrder } from '../../src/terminate/destinations.ts';

const at = Date.UTC(2026, 1, 3, 4, 5, 6);
const connected = (seconds = 1) => ({ outcome: 'connected', seconds, at }) as const;
const timedOut = { outcome: 'timed_out', seconds: 1, at } as const;

describe('what is known of destinations', () => {
  it('counts how attempts ended, and how long connecting took, by class', () => {
    const known = new Destinations(10);
    for (const seconds of [0.001, 20, 0.002]) known.note('203.0.113.1', 443, connected(seconds));
    const refusal = { outcome: 'refused', seconds: 0.1, at: at + 1_000, problem: 'it refused' } as const;
    known.note('203.0.113.1', 443, refusal);
    const { destinations, truncated } = known.list('failures', {}, 1);
    const [report] = destinations;
    expect(truncated).toBe(false);
    expect(report).toMatchObject({
      ...{ address: '203.0.113.1', port: 443, connected: 3, refused: 1, timed_out: 0 },
      last_connected_at: '2026-02-03T04:05:06.000Z',
      ...{ last_problem: 'it refused', last_problem_at: '2026-02-03T04:05:07.000Z' },
    });
    // The first bound is not exceeded by what is just as long; the last class has no bound.
    expect(report?.connect_times.counts).toEqual([1, 1, ...connectSeconds.slice(2).map(() => 0), 1]);
    expect(report?.connect_times.sum_s).toBeCloseTo(20.003);
    expect(report?.connect_times.max_s).toBe(20);
    expect(known.total()).toMatchObject({ connected: 3, refused: 1, connect_times: report?.connect_times });
  });

  it.each([
    ['failures', [2, 3, 4, 1]],
    ['attempts', [4, 2, 1, 3]],
    ['connect_time', [1, 4, 2, 3]],
  ] as const)('tells those first that are first by %s, and then those that are tried most', (by, expected) => {
    const known = new Destinations(10);
    known.note('203.0.113.1', 1, connected(3));
    for (const port of [2, 2, 3]) known.note('203.0.113.1', port, timedOut);
    for (let i = 0; i < 5; i++) known.note('203.0.113.1', 4, connected(1));
    const portsOf = (order: DestinationOrder) => known.list(order, {}, 9).destinations.map(({ port }) => port);
    expect(portsOf(by)).toEqual(expected);
    expect(known.list(by, {}, 3).truncated).toBe(true);
  });

  it('finds those at an address, or at a port of it', () => {
    const known = new Destinations(10);
    for (const address of ['203.0.113.1', '2001:db8:f::1'])
      for (const port of [80, 443]) known.note(address, port, connected());
    const found = (filter: Parameters<Destinations['list']>[1]) =>
      known.list('attempts', filter, 9).destinations.map(({ address, port }) => `${address} ${port}`);
    expect(found({ address: '2001:db8:f::1' })).toEqual(['2001:db8:f::1 80', '2001:db8:f::1 443']);
    expect(found({ port: 80 })).toEqual(['203.0.113.1 80', '2001:db8:f::1 80']);
    expect(found({ address: '203.0.113.1', port: 443 })).toEqual(['203.0.113.1 443']);
    expect(found({ port: 22 })).toEqual([]);
  });

  it('forgets the one that was tried longest ago, but not what it adds to the whole', () => {
    const known = new Destinations(2);
    for (const port of [1, 2, 1, 3]) known.note('203.0.113.1', port, connected());
    expect(known.list('attempts', {}, 9).destinations.map(({ port }) => port)).toEqual([1, 3]);
    expect([known.size, known.forgotten, known.total().connected]).toEqual([2, 1, 4]);
  });
});
