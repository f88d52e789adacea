import type { Change } from '../leases/table.ts';
import type { Changes } from '../leases/changes.ts';
import { brokerRow, reportedLeaseRow, reportedSessionRow } from './reported-rows.ts';
import * as rows from './rows.ts';
import type { AnyRow } from './statement.ts';

/** The tables that a batch writes, by the names that both schemas export them under. */
export type WrittenTable =
  | ('pools' | 'machines' | 'holders' | 'slices' | 'tenures' | 'sessions' | 'leases' | 'extents' | 'sharedBlocks')
  | ('revocations' | 'accessTokens' | 'routers' | 'keptAnswers' | 'epochs' | 'audit' | 'events')
  | ('brokers' | 'reportedSessions' | 'reportedLeases');

/** What a batch does to one table. What leaves goes first: a row may take the place that another has just left. */
export type ChangedRows = Readonly<{
  table: WrittenTable;
  deleted: readonly AnyRow[];
  updated: readonly Readonly<{ before: AnyRow; after: AnyRow }>[];
  inserted: readonly AnyRow[];
}>;

/**
 * Everything that a batch writes, in an order in which every step leaves the slices disjoint, because the database looks:
 * leases that go make room first, then extents give way or take it, then new leases come.
 */
export function changedRows(changes: Changes): readonly ChangedRows[] {
  const leases = changed('leases', changes.leases, rows.leaseRow);
  const holders = changed('holders', changes.holders, rows.holderRow);
  return [
    // Holders refer to their machine: they go before it, and come after it.
    { ...holders, inserted: [], updated: [] },
    changed('pools', changes.pools, rows.poolRow),
    changed('machines', changes.machines, rows.machineRow),
    { ...holders, deleted: [] },
    changed('slices', changes.slices, rows.sliceRow),
    changed('tenures', changes.tenures, rows.tenureRow),
    changed('sessions', changes.sessions, rows.sessionRow),
    { ...leases, inserted: [] },
    changed('extents', changes.extents, rows.extentRow),
    changed('sharedBlocks', changes.blocks, rows.sharedBlockRow),
    { ...leases, deleted: [], updated: [] },
    changed('revocations', changes.revocations, rows.revocationRow),
    changed('accessTokens', changes.accessTokens, rows.accessTokenRow),
    changed('routers', changes.routers, rows.routerRow),
    changed('keptAnswers', changes.keptAnswers, rows.keptAnswerRow),
    { table: 'audit', deleted: [], updated: [], inserted: changes.audit.map(rows.auditRow) },
    changed('epochs', changes.epochs, rows.epochRow),
    changed('brokers', changes.brokers, brokerRow),
    changed('reportedSessions', changes.reportedSessions, reportedSessionRow),
    changed('reportedLeases', changes.reportedLeases, reportedLeaseRow),
    { table: 'events', deleted: [], updated: [], inserted: changes.events.map(rows.eventRow) },
  ];
}

/** Holders that there are no more: what they have, which is nothing, is counted no longer. */
export const goneHolders = ({
  holders,
}: Pick<Changes, 'holders'>): readonly Readonly<{ machine: string; holder: string }>[] =>
  holders.flatMap(({ before, after }) => (before && !after ? [{ machine: before.machine, holder: before.name }] : []));

function changed<Domain>(
  table: WrittenTable,
  changes: readonly Change<Domain>[],
  rowOf: (value: Domain) => AnyRow,
): ChangedRows {
  const deleted: AnyRow[] = [];
  const updated: { before: AnyRow; after: AnyRow }[] = [];
  const inserted: AnyRow[] = [];
  for (const { before, after } of changes)
    if (before && after) updated.push({ before: rowOf(before), after: rowOf(after) });
    else if (before) deleted.push(rowOf(before));
    else if (after) inserted.push(rowOf(after));
  return { table, deleted, updated, inserted };
}
