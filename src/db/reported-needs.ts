import { each, whole, type NeedStatements } from './need-statement.ts';
import { brokerOf, reportedLeaseOf, reportedSessionOf } from './reported-rows.ts';
import type { BrokerRow, ReportedLeaseRow, ReportedSessionRow } from './reported-rows.ts';

/** What is needed to write down what machines report. */
export const reportedNeeds: Pick<
  NeedStatements,
  'broker' | 'reportedSession' | 'reportedLease' | 'reportedOccupants' | 'lostSessions' | 'lostLeases'
> = {
  broker: [
    each(
      'SELECT * FROM brokers WHERE machine = @machine',
      ({ machine }) => ({ machine }),
      (view, row: BrokerRow) => view.brokers.load(brokerOf(row)),
    ),
  ],
  reportedSession: [
    each(
      'SELECT * FROM reported_sessions WHERE machine = @machine AND incarnation = @incarnation AND id = @entry',
      ({ machine, incarnation, id }) => ({ machine, incarnation, entry: id }),
      (view, row: ReportedSessionRow) => view.reportedSessions.load(reportedSessionOf(row)),
    ),
  ],
  reportedLease: [
    each(
      'SELECT * FROM reported_leases WHERE machine = @machine AND incarnation = @incarnation AND id = @entry',
      ({ machine, incarnation, id }) => ({ machine, incarnation, entry: id }),
      (view, row: ReportedLeaseRow) => view.reportedLeases.load(reportedLeaseOf(row)),
    ),
  ],
  reportedOccupants: [
    whole(
      `SELECT count(*) AS count FROM reported_leases WHERE slice = @slice AND generation = @generation
       AND empty_at IS NULL AND state <> 'refused'`,
      ({ slice, generation }) => ({ slice, generation }),
      (view, [row]: readonly Readonly<{ count: number }>[], { slice, generation }) =>
        view.loadReportedOccupants(slice, generation, row?.count ?? 0),
    ),
  ],
  lostSessions: [
    each(
      `SELECT * FROM reported_sessions WHERE machine = @machine AND state = 'live' AND told < @before
       ORDER BY told, incarnation, id LIMIT @limit`,
      ({ machine, before, limit }) => ({ machine, before, limit }),
      (view, row: ReportedSessionRow) => view.reportedSessions.load(reportedSessionOf(row)),
    ),
  ],
  lostLeases: [
    each(
      `SELECT * FROM reported_leases WHERE machine = @machine AND over_at IS NULL AND told < @before
       ORDER BY granted_at, id LIMIT @limit`,
      ({ machine, before, limit }) => ({ machine, before, limit }),
      (view, row: ReportedLeaseRow) => view.reportedLeases.load(reportedLeaseOf(row)),
    ),
  ],
};
