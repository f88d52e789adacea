import {
  overAtOf,
  type Broker,
  type ReportedCounters,
  type ReportedLease,
  type ReportedPorts,
  type ReportedSession,
} from '../leases/reported.ts';
import { leaseOf, leaseRow, sessionOf, sessionRow } from './rows.ts';
import type * as schema from './sqlite/schema.ts';

/** Rows of what machines reported ↔ rows of the domain, see `rows.ts`. */

export type BrokerRow = (typeof schema.brokers)['$inferSelect'];
export type ReportedSessionRow = (typeof schema.reportedSessions)['$inferSelect'];
export type ReportedLeaseRow = (typeof schema.reportedLeases)['$inferSelect'];

export const brokerRow = (broker: Broker): BrokerRow => ({
  machine: broker.machine,
  epoch: broker.epoch,
  incarnation: broker.incarnation,
  is_whole: broker.isWhole ? 1 : 0,
  after_revision: broker.after,
  through_revision: broker.through,
  complete_since: broker.completeSince,
  as_of: broker.asOf,
  reported_at: broker.reportedAt,
  told: broker.told,
  snapshot_page: broker.snapshot?.page ?? null,
  snapshot_through: broker.snapshot?.through ?? null,
  lost_before: broker.lost?.before ?? null,
  lost_at: broker.lost?.at ?? null,
  ports: JSON.stringify(broker.ports),
  counters: JSON.stringify(broker.counters),
});

export const brokerOf = (row: BrokerRow): Broker => ({
  machine: row.machine,
  epoch: row.epoch,
  incarnation: row.incarnation,
  isWhole: row.is_whole === 1,
  after: row.after_revision,
  through: row.through_revision,
  completeSince: row.complete_since,
  asOf: row.as_of,
  reportedAt: row.reported_at,
  told: row.told,
  snapshot:
    row.snapshot_page === null || row.snapshot_through === null
      ? null
      : { page: row.snapshot_page, through: row.snapshot_through },
  lost: row.lost_before === null || row.lost_at === null ? null : { before: row.lost_before, at: row.lost_at },
  ports: JSON.parse(row.ports) as readonly ReportedPorts[],
  counters: JSON.parse(row.counters) as ReportedCounters,
});

export function reportedSessionRow({ incarnation, told, ...session }: ReportedSession): ReportedSessionRow {
  const { settled: _, ...row } = sessionRow({ ...session, settled: false });
  return { ...row, incarnation, told };
}

export function reportedSessionOf(row: ReportedSessionRow): ReportedSession {
  const { settled: _, ...session } = sessionOf({ ...row, settled: 0 });
  return { ...session, incarnation: row.incarnation, told: row.told };
}

export function reportedLeaseRow({ incarnation, told, ...lease }: ReportedLease): ReportedLeaseRow {
  const { unit: _, forced: __, ...row } = leaseRow({ ...lease, unit: null, forced: false });
  return { ...row, incarnation, told, over_at: overAtOf(lease) };
}

export function reportedLeaseOf(row: ReportedLeaseRow): ReportedLease {
  const { unit: _, forced: __, ...lease } = leaseOf({ ...row, unit: null, forced: null });
  return { ...lease, incarnation: row.incarnation, told: row.told };
}
