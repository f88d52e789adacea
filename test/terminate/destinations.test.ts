import { describe, expect, it } from 'vitest';
import { ClientCounts } from '../../src/terminate/client-counts.ts';
import { connectSeconds, Destinations } from '../../src/terminate/destinations.ts';
import { Lines } from '../../src/terminate/protocol.ts';

describe('what is known of destinations', () => {
  it('counts how attempts ended, and how long connecting took, by class', () => {
    const known = new Destinations(10);
    for (const seconds of [0.001, 0.002, 20]) known.note('203.0.113.1', 443, { outcome: 'connected', seconds });
    known.note('203.0.113.1', 443, { outcome: 'refused', seconds: 0.1, problem: 'it refused' });
    const [report] = known.worst(1);
    expect(report).toMatchObject({ address: '203.0.113.1', port: 443, connected: 3, refused: 1, timed_out: 0 });
    expect(report?.last_problem).toBe('it refused');
    // The first bound is not exceeded by what is just as long; the last class has no bound.
    expect(report?.connect_times.counts).toEqual([1, 1, ...connectSeconds.slice(2).map(() => 0), 1]);
    expect(report?.connect_times.sum_s).toBeCloseTo(20.003);
  });

  it('tells those first where most goes wrong, then those that are used most', () => {
    const known = new Destinations(10);
    known.note('203.0.113.1', 1, { outcome: 'connected', seconds: 1 });
    for (const port of [2, 2, 3]) known.note('203.0.113.1', port, { outcome: 'timed_out', seconds: 1 });
    for (let i = 0; i < 5; i++) known.note('203.0.113.1', 4, { outcome: 'connected', seconds: 1 });
    expect(known.worst(3).map(({ port }) => port)).toEqual([2, 3, 4]);
  });

  it('forgets the one that was tried longest ago, but not what it adds to the whole', () => {
    const known = new Destinations(2);
    for (const port of [1, 2, 1, 3]) known.note('203.0.113.1', port, { outcome: 'connected', seconds: 1 });
    expect(known.worst(9).map(({ port }) => port)).toEqual([1, 3]);
    expect([known.size, known.forgotten, known.total().connected]).toEqual([2, 1, 4]);
  });
});

describe('connections of a client', () => {
  it('are so many at most, and only those that were counted are given back', () => {
    const counts = new ClientCounts();
    expect([counts.take('a', 2), counts.take('a', 2), counts.take('a', 2), counts.take('b', 2)]).toEqual([
      true,
      true,
      false,
      true,
    ]);
    counts.give('a');
    expect(counts.take('a', 2)).toBe(true);
    for (const client of ['a', 'a', 'b']) counts.give(client);
    expect(counts.clients).toBe(0);
    expect(() => counts.give('a')).toThrow('a has no connection');
  });
});

describe('lines', () => {
  it('are whole, however they arrive', () => {
    const lines = new Lines();
    expect(['{"a"', ':1}\n{"b":2}\n{', '}', '\n'].map((piece) => lines.take(piece))).toEqual([
      [],
      ['{"a":1}', '{"b":2}'],
      [],
      ['{}'],
    ]);
  });

  it('have an end', () => {
    const lines = new Lines();
    const mebibyte = 'x'.repeat(1_024 * 1_024);
    expect(() => {
      for (let i = 0; i < 17; i++) lines.take(mebibyte);
    }).toThrow('a message of more than 16777216 characters');
  });
});
