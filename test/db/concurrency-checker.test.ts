import { beforeAll, describe, expect, it } from 'vitest';
import { presentLease } from '../../src/api/present.ts';
import type { Lease as Row } from '../../src/leases/model.ts';
import { called, flawsOfRun, type History } from '../support/concurrency/checker.ts';
import type { Ended, Granted, Taken } from '../support/concurrency/ledger.ts';
import type { Stored } from '../support/stored-tables.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { tcp, World } from '../support/world.ts';

/** A short run without a flaw: two leases one after the other on the same ports, and a third beside them. */
let run: Readonly<{
  granted: readonly Granted[];
  ended: readonly Ended[];
  taken: readonly Taken[];
  stored: Stored;
  histories: readonly History[];
}>;
let [first, second, third]: Row[] = [];

beforeAll(async () => {
  const store = new MemoryStore();
  const world = new World(store);
  await world.pool('p', ['198.51.100.0/32'], { slicePorts: 8, usablePorts: { first: 1_024, last: 1_031 } });
  await world.machine('bare', 'none');
  await world.holder('bare', 'web');
  await world.ready('bare', 'p');
  const web = await world.session('bare', 'web', 3_600);
  [first] = await world.leases(web, tcp(4));
  if (!first) throw new Error('no lease');
  const [beside] = await world.leases(web, tcp(4));
  await world.release(first);
  await world.pass(121);
  [second] = await world.leases(web, tcp(4));
  third = beside;
  if (!second || !third) throw new Error('no leases');
  const rows = [...store.tables.leases.values()];
  const granted = [first, third, second].map((row, index): Granted => ({
    lease: presentLease(row),
    sentMs: 100 * index,
    answeredMs: 100 * index + 10,
  }));
  const over = rows.find(({ id }) => id === first?.id);
  const answered = over ? presentLease(over) : null;
  run = {
    granted,
    ended: [{ id: `lease-${first.id}`, by: 'released', sentMs: 150, answered }],
    taken: [],
    stored: { tables: store.tables, events: store.events, held: [] },
    histories: [
      {
        ...{ watcher: 'w', machine: null },
        seen: store.events.map((event) =>
          called(
            event.revision,
            event.kind,
            event.kind === 'lease'
              ? `lease-${event.lease.id} ${event.lease.state}`
              : event.kind === 'slice'
                ? `slice-${event.slice.id} ${event.slice.state}`
                : event.kind === 'session'
                  ? `session-${event.session.id} ${event.session.state}`
                  : '',
          ),
        ),
      },
    ],
  };
});

type Run = typeof run;
const flawsOf = ({ granted, ended, taken, stored, histories }: Run) =>
  flawsOfRun({ granted: [...granted], ended: [...ended], taken: [...taken] }, stored, {
    histories,
    through: stored.events.at(-1)?.revision ?? 0,
  });

/** The same run with a lease of the database replaced by another, or taken away. */
function withRow(id: number, change: Partial<Row> | null): Run {
  const leases = new Map(run.stored.tables.leases);
  const row = leases.get(id);
  if (change === null || !row) leases.delete(id);
  else leases.set(id, { ...row, ...change });
  return { ...run, stored: { ...run.stored, tables: { ...run.stored.tables, leases } } };
}
const withHistory = (change: (seen: readonly string[]) => readonly string[]): Run => ({
  ...run,
  histories: run.histories.map((history) => ({ ...history, seen: change(history.seen) })),
});

describe('the checker of concurrent runs', () => {
  it('finds nothing in a run without a flaw', () => {
    expect(flawsOf(run)).toEqual([]);
  });

  it('takes ends from an operator who took many at once, as far as they reach', () => {
    const taken: Taken = {
      by: 'revoked',
      ...{ sentMs: 150, throughMs: 160, revocation: null },
      covers: ({ ports }) => ports.first === first?.ports.first,
    };
    const revoked = { ...withRow(first?.id ?? 0, { ending: 'revoked' }), ended: [], taken: [taken] };
    expect(flawsOf(revoked)).toEqual([]);
    const other = { ...taken, covers: () => false };
    expect(flawsOf({ ...revoked, taken: [other] })).not.toEqual([]);
    expect(flawsOf({ ...revoked, taken: [{ ...taken, by: 'moved' }] }).join()).toMatch(/nobody asked/);
    expect(flawsOf({ ...run, taken: [{ ...other, revocation: 'revocation-7' }] })).toEqual([
      'revocation-7 was answered and is not in the database',
    ]);
  });

  it.each<[string, () => Run, RegExp]>([
    [
      'ports that two were sure of',
      () => ({ ...run, ended: run.ended.map((end) => ({ ...end, sentMs: 250 })) }),
      /held at the same time/,
    ],
    ['ports that were never given back', () => ({ ...run, ended: [] }), /held at the same time/],
    [
      'one lease for two requests',
      () => ({ ...run, granted: [...run.granted, ...run.granted.slice(0, 1)] }),
      /answered to two requests/,
    ],
    [
      'an answered grant that is missing',
      () => withRow(third?.id ?? 0, null),
      /was answered and is not in the database/,
    ],
    ['a grant that is another one', () => withRow(third?.id ?? 0, { generation: 7 }), /is another one in the database/],
    [
      'an end that nobody asked for',
      () => withRow(third?.id ?? 0, { ending: 'expired' }),
      /ended \(expired\), and nobody asked/,
    ],
    [
      'an answered end that is missing',
      () => withRow(first?.id ?? 0, { ending: null, state: 'active', emptyAt: null }),
      /the end of lease-\d+ was answered/,
    ],
    ['a table with two on one port', () => withRow(first?.id ?? 0, { emptyAt: null }), /overlap in the database/],
    [
      'a gap in the log',
      () => ({ ...run, stored: { ...run.stored, events: run.stored.events.toSpliced(3, 1) } }),
      /follows a gap/,
    ],
    [
      'a log that goes back in time',
      () => ({
        ...run,
        stored: {
          ...run.stored,
          events: run.stored.events.map((event, index) => (index === 4 ? { ...event, at: 1 } : event)),
        },
      }),
      /goes back in time/,
    ],
    ['a watcher that missed something', () => withHistory((seen) => seen.toSpliced(2, 1)), /where the log has/],
    [
      'a watcher that saw something twice',
      () => withHistory((seen) => [...seen.slice(0, 3), ...seen.slice(2)]),
      /where the log has/,
    ],
    [
      'a watcher that saw what is not',
      () => withHistory((seen) => [...seen, '99 lease lease-99 active']),
      /where the log has/,
    ],
    ['a watcher that stopped early', () => withHistory((seen) => seen.slice(0, -1)), /missed 1 changes/],
  ])('finds %s', (_, spoilt, flaw) => {
    expect(flawsOf(spoilt()).join('\n')).toMatch(flaw);
  });
});
