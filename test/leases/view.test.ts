import { describe, expect, it } from 'vitest';
import type { PortRange } from '../../src/net/ports.ts';
import { fitOf } from '../../src/leases/allocator.ts';
import type { Extent, Machine } from '../../src/leases/model.ts';
import { limits } from '../../src/leases/limits.ts';
import { roundsOf, together, type Need, type Needs } from '../../src/leases/needs.ts';
import { View } from '../../src/leases/view.ts';
import { asCreated } from '../support/world.ts';

const machine = (id: string, revision = 1): Machine => ({
  ...{ id, labels: {}, enforcement: 'agent', ...asCreated, fenceUs: 1, mark: null, nextHops: [], agent: null },
  ...{ createdAt: 0, updatedAt: 0, revision },
});
const port = (at: number): PortRange => ({ first: at, last: at });
const free = (ports: PortRange): Extent => ({
  ...{ slice: 1, protocol: 'tcp', ports, machine: 'm', pool: 'p', family: 4, state: 'free', offered: true },
  ...{ allocator: 'server', fit: fitOf(ports), restedSince: 0, reusableAt: null, blocked: null },
});
const build = () => new View({ epoch: 1, confirmedAt: 0, revision: 41, lastEventAt: 1_000 }, 500);

describe('a view', () => {
  it('takes a row that was never asked for as a bug, not as absent', () => {
    const view = build();
    expect(() => view.machines.get('a')).toThrow('machine a was read but never asked for');
    view.ask({ need: 'machine', id: 'a' });
    expect(view.machines.get('a')).toBeUndefined();
    expect(() => view.offersOf('a')).toThrow('the offers of a were read but never asked for');
  });

  it('comes out as one change per row: made, changed, gone, or not at all', () => {
    const view = build();
    for (const id of ['kept', 'changed', 'gone', 'back']) view.machines.load(machine(id));
    view.machines.put(machine('changed', 2));
    view.machines.put(machine('changed', 3));
    view.machines.remove('gone');
    view.machines.put(machine('made'));
    view.machines.put(machine('brief'));
    view.machines.remove('brief');
    const mark = view.mark();
    view.machines.put(machine('back', 9));
    view.rewindTo(mark);
    expect(view.changes().machines).toEqual([
      { before: machine('changed'), after: machine('changed', 3) },
      { before: machine('gone'), after: undefined },
      { before: undefined, after: machine('made') },
    ]);
  });

  it('goes back to a mark without a trace, in rows and in the log', () => {
    const view = build();
    view.machines.load(machine('a'));
    view.log('a', (revision) => ({ kind: 'machine', subject: machine('a', revision) }));
    const mark = view.mark();
    view.log('a', (revision) => ({ kind: 'machine', subject: machine('a', revision) }));
    view.machines.put(machine('a', 43));
    view.machines.put(machine('b', 43));
    view.rewindTo(mark);
    expect(view.revision).toBe(42);
    expect(view.machines.get('a')).toEqual(machine('a'));
    expect(view.changes()).toMatchObject({ machines: [], events: [{ revision: 42 }] });
  });

  it('numbers the log without a gap, and its time only rises', () => {
    const view = build();
    const log = () => view.log(null, (revision) => ({ kind: 'machine', subject: machine('a', revision) }));
    log();
    log();
    expect(view.events.map(({ revision, at }) => [revision, at])).toEqual([
      [42, 1_001],
      [43, 1_002],
    ]);
  });

  it('is loaded once: what a command decided is not overwritten', () => {
    const view = build();
    view.machines.load(machine('a'));
    view.machines.put(machine('a', 2));
    view.machines.load(machine('a'));
    expect(view.machines.get('a')).toEqual(machine('a', 2));
  });
});

describe('what a batch needs', () => {
  const extents = (pool: string, order: number): Need => ({
    ...{ need: 'offeredExtents', machine: 'm', protocol: 'tcp', pool, family: 4 },
    ...{ order, limit: 1 },
  });
  const needsOf = function* (...rounds: (readonly Need[])[]): Needs {
    yield* rounds;
  };

  it('is asked round by round, each thing once', () => {
    const a: Need = { need: 'machine', id: 'a' };
    const b: Need = { need: 'machine', id: 'b' };
    const c: Need = { need: 'session', id: 3 };
    const rounds = [...roundsOf([needsOf([a], [b]), needsOf([a, c]), needsOf([], [a])], build())];
    expect(rounds).toEqual([[a, c], [b]]);
  });

  it('has windows as long as there are claims that compete for the same ports', () => {
    const rounds = [
      ...roundsOf(
        [needsOf([extents('p', 0)]), needsOf([extents('p', 0), extents('p', 3)]), needsOf([extents('q', 0)])],
        build(),
      ),
    ];
    expect(
      rounds[0]?.map(
        (need) =>
          'limit' in need && `${'pool' in need ? need.pool : ''} ${'order' in need ? need.order : ''}: ${need.limit}`,
      ),
    ).toEqual(['p 0: 3', 'p 3: 3', 'q 0: 1']);
  });

  it.each([
    ['one large extent serves them all', [{ first: 0, last: 2_047 }], []],
    ['the first extents have no room for all of them', Array.from({ length: 20 }, (_, i) => port(2 * i)), [100]],
    ['one of them wants more than the first extents have', [{ first: 0, last: 127 }], [100, 100], 7],
  ])('loads the rest of a long window only if need be: %s', (_, found, expected, largest = 0) => {
    const view = build();
    const claims = Array.from({ length: 100 }, (_, i) => needsOf([extents('p', i === 0 ? largest : 0)]));
    const asked: number[][] = [];
    for (const round of roundsOf(claims, view)) {
      asked.push(round.flatMap((need) => ('limit' in need ? need.limit : [])));
      for (const ports of found.slice(0, asked.at(-1)?.[0])) view.extents.load(free(ports));
    }
    const first = limits.window_rows_first;
    expect(asked.filter((round) => round.length > 0)).toEqual([
      largest === 0 ? [first] : [first, first],
      ...(expected.length > 0 ? [expected] : []),
    ]);
  });

  it('goes on in lockstep however long each is', () => {
    const one: Need = { need: 'pools' };
    const lengths = [...together([needsOf([one], [one], [one]), needsOf([one])])].map((round) => round.length);
    expect(lengths).toEqual([2, 1, 1]);
  });
});
