import { tenureKey } from '../../src/leases/model.ts';
import { overAtOf } from '../../src/leases/reported.ts';
import type { Store } from '../../src/leases/store.ts';
import type { Tables } from './memory-store.ts';

/** Removes what has been over for long enough; `historySince`: what was over before that may be missing. */
export function pruneTables(
  { leases, sessions, revocations, tenures, reportedLeases, reportedSessions }: Tables,
  { now, keptUs, rowsMax }: Parameters<Store['prune']>[0],
) {
  const before = now - keptUs;
  let removed = 0;
  const remove = <Key, Row>(
    table: Map<Key, Row>,
    overAt: (row: Row) => number | null,
    by?: (a: Row, b: Row) => number,
  ) => {
    const over = [...table].flatMap(([key, row]) => ((overAt(row) ?? Infinity) <= before ? [{ key, row }] : []));
    // Where several were over at once, in the order of their ids, as they come here.
    over.sort((a, b) => (overAt(a.row) ?? 0) - (overAt(b.row) ?? 0) || (by?.(a.row, b.row) ?? 0));
    for (const { key } of over.slice(0, rowsMax - removed)) {
      table.delete(key);
      removed++;
    }
  };
  remove(leases, (row) => row.endedAt);
  const hasLeases = (id: number) => [...leases.values()].some((lease) => lease.session === id);
  remove(sessions, (row) => (row.settled && !hasLeases(row.id) ? row.endedAt : null));
  remove(revocations, (row) => ((row.doneAt ?? Infinity) <= before ? row.endedAt : null));
  type OfBroker = Readonly<{ machine: string; incarnation: number; id: number }>;
  const byKey = (a: OfBroker, b: OfBroker) =>
    a.machine === b.machine ? a.incarnation - b.incarnation || a.id - b.id : a.machine < b.machine ? -1 : 1;
  remove(reportedLeases, overAtOf, byKey);
  remove(reportedLeases, (row) => tenures.get(tenureKey(row.slice, row.generation))?.until ?? null, byKey);
  const isNamed = (row: OfBroker) =>
    [...reportedLeases.values()].some(
      ({ machine, incarnation, session }) =>
        machine === row.machine && incarnation === row.incarnation && session === row.id,
    );
  remove(reportedSessions, (row) => (isNamed(row) ? null : row.endedAt), byKey);
  remove(tenures, (row) => row.until);
  return { removed, more: removed >= rowsMax, historySince: before };
}

export function forgetFrom({ keptAnswers, audit }: Tables, { what, before, rowsMax }: Parameters<Store['forget']>[0]) {
  const forget = <Key>(table: Map<Key, { at: number }>, kept: Key | undefined) => {
    const old = [...table].filter(([key, { at }]) => at < before && key !== kept).sort(([, a], [, b]) => a.at - b.at);
    const gone = old.slice(0, rowsMax);
    for (const [key] of gone) table.delete(key);
    return { dropped: gone.length, more: gone.length === rowsMax };
  };
  return what === 'answers' ? forget(keptAnswers, undefined) : forget(audit, [...audit.keys()].at(-1));
}
