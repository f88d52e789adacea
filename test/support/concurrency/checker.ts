import type { Event, Lease as Row } from '../../../src/leases/model.ts';
import { formatToken } from '../../../src/leases/model.ts';
import type { Lease } from '../../../src/wire/leases.ts';
import type { Stored } from '../stored-tables.ts';
import type { Ended, Granted, Ledger, Taken } from './ledger.ts';

/** What one watcher saw, as `revision kind what` in the order that it came. `machine`: whose concerns it follows; null, all. */
export type History = Readonly<{ watcher: string; machine: string | null; seen: readonly string[] }>;

/**
 * Everything that is wrong with a run, by what clients were answered and by what the database holds at its end; nothing of
 * the engine, and nothing of `fishery check`. Watchers must have come as far as revision `through`.
 */
export function flawsOfRun(
  ledger: Answers,
  { tables, events }: Pick<Stored, 'tables' | 'events'>,
  { histories, through }: Readonly<{ histories: readonly History[]; through: number }>,
): readonly string[] {
  return [
    ...flawsOfAnswers(ledger),
    ...flawsOfMemory(ledger, tables.leases),
    ...ledger.taken
      .filter(({ revocation }) => revocation !== null && !tables.revocations.has(numberOf(revocation)))
      .map(({ revocation }) => `${revocation} was answered and is not in the database`),
    ...flawsOfTable([...tables.leases.values()]),
    ...flawsOfLog(events),
    ...histories.flatMap((history) => flawsOfHistory(history, events, through)),
  ];
}

type Answers = Pick<Ledger, 'granted' | 'ended' | 'taken'>;

/** What may have ended this lease, of all that took many. */
const takenFrom = ({ lease, sentMs }: Granted, taken: readonly Taken[]): readonly Taken[] =>
  taken.filter((one) => one.throughMs >= sentMs && one.covers(lease));

/** From when to when a client was sure that the ports were its own: from the answer until the first word of the end. */
type Held = Readonly<{ id: string; place: string; first: number; last: number; from: number; until: number }>;

/** No two clients were ever sure of the same port at the same time. */
function flawsOfAnswers({ granted, ended, taken }: Answers): readonly string[] {
  const firstEnd = new Map<string, number>();
  for (const { id, sentMs } of ended) firstEnd.set(id, Math.min(sentMs, firstEnd.get(id) ?? Infinity));
  const held = granted.map((one): Held => {
    const { lease, answeredMs } = one;
    return {
      id: lease.id,
      // Members of one shared block are kept apart by the kernel, and from everybody else by being a block.
      place: `${lease.address}/${lease.protocol}`,
      ...lease.ports,
      from: answeredMs,
      until: Math.min(firstEnd.get(lease.id) ?? Infinity, ...takenFrom(one, taken).map(({ sentMs }) => sentMs)),
    };
  });
  const shared = new Set(granted.filter(({ lease }) => lease.mode === 'shared').map(({ lease }) => lease.id));
  const twice = granted.length - new Set(granted.map(({ lease }) => lease.id)).size;
  return [
    ...(twice > 0 ? [`${twice} leases were answered to two requests`] : []),
    ...overlaps(held, (a, b) => {
      if (!shared.has(a.id) || !shared.has(b.id)) return true;
      return a.first !== b.first || a.last !== b.last;
    }).map(([a, b]) => `${a.id} and ${b.id} were held at the same time on ${a.place}:${b.first}`),
  ];
}

/** Whatever was answered is in the database, as it was answered or further on; and nothing ended that nobody ended. */
function flawsOfMemory({ granted, ended, taken }: Answers, rows: ReadonlyMap<number, Row>) {
  const flaws: string[] = [];
  const asked = Map.groupBy(ended, ({ id }) => id);
  for (const one of granted) {
    const { lease } = one;
    const row = rows.get(numberOf(lease.id));
    if (!row) flaws.push(`${lease.id} was answered and is not in the database`);
    else if (!isSame(lease, row)) flaws.push(`${lease.id} is another one in the database than was answered`);
    else {
      const ends = asked.get(lease.id) ?? [];
      flaws.push(...flawsOfEnd(lease.id, row, ends, takenFrom(one, taken)));
    }
  }
  return flaws;
}

function flawsOfEnd(id: string, row: Row, ends: readonly Ended[], taken: readonly Taken[]): readonly string[] {
  const isOver = row.ending !== null;
  if (isOver && ![...ends, ...taken].some(({ by }) => by === row.ending))
    return [`${id} ended (${row.ending}), and nobody asked for it`];
  const answered = ends.filter((end) => end.answered !== null);
  if (answered.length > 0 && !isOver) return [`the end of ${id} was answered and is not in the database`];
  return answered.length > 1 ? [`${id} was ended twice`] : [];
}

const numberOf = (id: string): number => Number(id.slice(id.indexOf('-') + 1));

const isSame = (lease: Lease, row: Row): boolean =>
  lease.token === formatToken(row) &&
  lease.address === row.address &&
  lease.protocol === row.protocol &&
  lease.ports.first === row.ports.first &&
  lease.ports.last === row.ports.last &&
  lease.holder === row.holder &&
  lease.machine === row.machine;

/** By the database's own times: no two leases on the same ports at the same time, from grant until proven empty. */
function flawsOfTable(rows: readonly Row[]): readonly string[] {
  const held = rows
    .filter(({ state }) => state !== 'refused')
    .map((row) => ({
      ...{ id: `lease-${row.id}`, place: `${row.address}/${row.protocol}`, ...row.ports, mode: row.mode },
      ...{ from: row.grantedAt, until: row.emptyAt ?? Infinity },
    }));
  return overlaps(held, (a, b) => a.mode !== 'shared' || b.mode !== 'shared' || a.first !== b.first).map(
    ([a, b]) => `${a.id} and ${b.id} overlap in the database on ${a.place}:${b.first}`,
  );
}

/** Pairs that have a port and an instant in common. Sorted by place and time, each is compared with what is still held. */
function overlaps<H extends Held>(all: readonly H[], counts: (a: H, b: H) => boolean): readonly (readonly [H, H])[] {
  const found: (readonly [H, H])[] = [];
  for (const here of Map.groupBy(all, ({ place }) => place).values()) {
    let open: H[] = [];
    for (const next of here.toSorted((a, b) => a.from - b.from)) {
      open = open.filter(({ until }) => until > next.from);
      for (const other of open)
        if (other.first <= next.last && next.first <= other.last && next.until > next.from && counts(other, next))
          found.push([other, next]);
      open.push(next);
    }
  }
  return found;
}

function flawsOfLog(events: readonly Event[]): readonly string[] {
  return events.flatMap((event, index) => {
    const before = events[index - 1];
    if (event.revision !== (before?.revision ?? 0) + 1) return [`revision ${event.revision} follows a gap`];
    return before && event.at <= before.at ? [`revision ${event.revision} goes back in time`] : [];
  });
}

/** How an event is called in a history: its revision, its kind, and which thing it is about. */
export const called = (revision: number, kind: string, what: string): string => `${revision} ${kind} ${what}`;

const subjectOf = (event: Event): string => {
  switch (event.kind) {
    case 'lease':
      return `lease-${event.lease.id} ${event.lease.state}`;
    case 'slice':
      return `slice-${event.slice.id} ${event.slice.state}`;
    case 'session':
      return `session-${event.session.id} ${event.session.state}`;
    default:
      return '';
  }
};

/** A watcher saw what the log has: all of what concerns it, each once and in order, as far as it must have come. */
function flawsOfHistory({ watcher, machine, seen }: History, events: readonly Event[], through: number) {
  const wanted = events
    .filter((event) => event.kind !== 'token')
    .filter((event) => machine === null || event.machine === null || event.machine === machine);
  const names = wanted.map((event) => called(event.revision, event.kind, subjectOf(event)));
  const wrong = seen.findIndex((one, index) => one !== names[index]);
  if (wrong >= 0) return [`${watcher} saw "${seen[wrong]}" where the log has "${names[wrong]}"`];
  const missed = wanted.slice(seen.length).filter(({ revision }) => revision <= through);
  return missed.length > 0 ? [`${watcher} missed ${missed.length} changes at the end`] : [];
}
