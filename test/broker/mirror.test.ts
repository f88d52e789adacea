import { describe, expect, it } from 'vitest';
import { contradictions, stepsToward, waitsForClock, type Mirrored, type ServerWord } from '../../src/broker/mirror.ts';
import type { Machine, Slice } from '../../src/leases/model.ts';
import type { Address } from '../../src/net/address.ts';
import { formatInstant, parseInstant } from '../../src/wire/instants.ts';
import { ownSlice } from '../support/broker-world.ts';

const now = parseInstant('2026-01-31T14:00:00.000000Z');
const hour = 3_600_000_000;
const minute = 60_000_000;
const machine = { id: 'edge', intent: 'active', fenceUs: 30_000_000 } as Machine;
const word = (slices: ServerWord['slices'] = [], over: Partial<ServerWord> = {}): ServerWord => ({
  ...{ machine: 'edge', state: 'active', fence_s: 30, pools: [], holders: [], slices, revocations: [] },
  ...over,
});
/** Of the table: the row of a slice that the server handed over. */
const row = (over: Partial<Slice> = {}): Slice => ({
  ...{ id: 1, pool: 'pool', poolBornAt: 1, address: '198.51.100.10' as Address, ports: { first: 8_192, last: 10_239 } },
  ...{ machine: 'edge', generation: 1, state: 'assigned', allocator: 'server', drainingSince: null, drainBy: null },
  ...{ next: null, reclaimed: false, assignedAt: 1, reusableAt: null },
  ...{ route: 'routed', routeRevision: 1, routeSince: 1, revision: 1 },
  ...over,
});
const table = (...rows: readonly Slice[]): Mirrored => ({
  ...{ machine, pools: new Map(), holders: new Map() },
  slices: new Map(rows.map((each) => [each.id, each])),
});
const draining = (by: number | null) =>
  ownSlice(1, { state: 'draining', drain_by: by === null ? null : formatInstant(by) });
const drains = (steps: ReturnType<typeof stepsToward>) =>
  steps.map((step) => (step.kind === 'drainSlice' ? `${step.kind} in ${step.deadlineUs}` : step.kind));

describe('a deadline of the server', () => {
  it.each([
    ['right', 0],
    ['an hour ahead', hour],
    ['an hour behind', -hour],
  ])('is as far away as the server has it, where the clock of the host is %s', (_, offUs) => {
    const clocks = { hereUs: now + offUs, serverUs: now };
    expect(drains(stepsToward(word([draining(now + minute)]), table(row()), clocks))).toEqual([
      'drainSlice in 60000000',
    ]);
    const known = row({ state: 'draining', drainBy: now + offUs + minute });
    expect(stepsToward(word([draining(now + minute)]), table(known), clocks)).toEqual([]);
    expect(drains(stepsToward(word([draining(now + minute / 2)]), table(known), clocks))).toEqual([
      'drainSlice in 30000000',
    ]);
  });

  it('is over when it has passed', () => {
    const clocks = { hereUs: now, serverUs: now };
    expect(drains(stepsToward(word([draining(now - minute)]), table(row()), clocks))).toEqual(['drainSlice in 0']);
  });

  it('waits until the clock of the server is known; nothing is granted meanwhile', () => {
    const unknown = { hereUs: now, serverUs: undefined };
    const slice = draining(now + minute);
    expect(drains(stepsToward(word([slice]), table(row()), unknown))).toEqual(['drainSlice in null']);
    expect(waitsForClock(word([slice]), unknown)).toBe(true);
    expect(waitsForClock(word([draining(null)]), unknown)).toBe(false);
    const known = row({ state: 'draining' });
    expect(stepsToward(word([slice]), table(known), unknown)).toEqual([]);
    const clocks = { hereUs: now + hour, serverUs: now };
    expect(drains(stepsToward(word([slice]), table(known), clocks))).toEqual(['drainSlice in 60000000']);
    expect(waitsForClock(word([slice]), clocks)).toBe(false);
  });
});

describe('the machine', () => {
  const clocks = { hereUs: now, serverUs: now };

  it('has the fence that the server gives it, also later', () => {
    expect(stepsToward(word(), table(), clocks)).toEqual([]);
    expect(stepsToward(word([], { fence_s: 60 }), table(), clocks)).toEqual([
      { kind: 'updateMachine', id: 'edge', state: 'active', fenceUs: 60_000_000 },
    ]);
  });
});

describe('the word of a server that was restored', () => {
  const clocks = { hereUs: now, serverUs: now };
  const given = (over: Partial<Slice>) => table(row(over));

  it.each([
    ['rests', given({ state: 'cooling' })],
    ['is free', given({ state: 'free', machine: null })],
    ['drains still', given({ state: 'draining' })],
    ['has come again since', given({ generation: 3 })],
  ])('contradicts a slice that was given back and %s', (_, has) => {
    expect(contradictions(word([ownSlice(1, { state: 'assigned' })]), has)).toMatchObject([
      expect.stringContaining('slice-1'),
    ]);
    const kinds = stepsToward(word([ownSlice(1, { state: 'assigned' })]), has, clocks).map(({ kind }) => kind);
    expect(kinds.filter((kind) => kind !== 'forgoSlice' && kind !== 'adoptSlice')).toEqual([]);
  });

  it('contradicts nothing else', () => {
    expect(contradictions(word([ownSlice(1, { state: 'assigned' }), ownSlice(2)]), table(row()))).toEqual([]);
    expect(contradictions(word([draining(null)]), given({ state: 'cooling' }))).toEqual([]);
    expect(contradictions(word([ownSlice(1, { generation: 2 })]), given({ state: 'free' }))).toEqual([]);
  });
});
