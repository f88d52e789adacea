import type { NeedOf } from '../../src/leases/needs.ts';
import type { Tenure } from '../../src/leases/model.ts';
import { tenureKey } from '../../src/leases/model.ts';
import { isOccupied, overAtOf, reportedInEffect, type ReportedLease } from '../../src/leases/reported.ts';
import type { PastLease, PortInstant } from '../../src/leases/store.ts';
import type { View } from '../../src/leases/view.ts';
import type { Tables } from './memory-store.ts';

type Need = NeedOf<
  ('broker' | 'reportedSession' | 'reportedLease') | ('reportedOccupants' | 'lostSessions' | 'lostLeases')
>;

/** What is asked for when machines report what they granted. */
export function loadReported(tables: Tables, view: View, need: Need): void {
  const { brokers, reportedSessions, reportedLeases } = tables;
  switch (need.need) {
    case 'broker': {
      const broker = brokers.get(need.machine);
      if (broker) view.brokers.load(broker);
      return;
    }
    case 'reportedSession': {
      const session = reportedSessions.get(`${need.machine}/${need.incarnation}/${need.id}`);
      if (session) view.reportedSessions.load(session);
      return;
    }
    case 'reportedLease': {
      const lease = reportedLeases.get(`${need.machine}/${need.incarnation}/${need.id}`);
      if (lease) view.reportedLeases.load(lease);
      return;
    }
    case 'reportedOccupants': {
      const { slice, generation } = need;
      const here = [...reportedLeases.values()].filter((row) => row.slice === slice && row.generation === generation);
      view.loadReportedOccupants(slice, generation, here.filter(isOccupied).length);
      return;
    }
    case 'lostSessions':
      for (const row of [...reportedSessions.values()]
        .filter(({ machine, state, told }) => machine === need.machine && state === 'live' && told < need.before)
        .sort((a, b) => a.told - b.told || a.incarnation - b.incarnation || a.id - b.id)
        .slice(0, need.limit))
        view.reportedSessions.load(row);
      return;
    case 'lostLeases':
      for (const row of [...reportedLeases.values()]
        .filter((lease) => lease.machine === need.machine && overAtOf(lease) === null && lease.told < need.before)
        .sort((a, b) => a.grantedAt - b.grantedAt || a.id - b.id)
        .slice(0, need.limit))
        view.reportedLeases.load(row);
      return;
  }
}

/** What the broker of a machine reported under its present epoch, in effect. */
export function reportedLeasesOf(tables: Tables, machine: string, now: number): ReportedLease[] {
  const incarnation = tables.brokers.get(machine)?.incarnation;
  return [...tables.reportedLeases.values()]
    .filter((row) => row.machine === machine && row.incarnation === incarnation)
    .map((row) =>
      reportedInEffect(row, {
        session: tables.reportedSessions.get(`${machine}/${incarnation}/${row.session}`),
        tenureUntil: tables.tenures.get(tenureKey(row.slice, row.generation))?.until ?? null,
        now,
      }),
    );
}

/** All that was ever reported, as attribution has it. */
export const reportedPast = (tables: Tables): (PastLease & { incarnation: number })[] =>
  [...tables.reportedLeases.values()].map(({ told: _, ...row }) => ({
    ...row,
    unit: null,
    forced: false,
    emptyAt: row.emptyAt ?? tables.tenures.get(tenureKey(row.slice, row.generation))?.until ?? null,
    byMachine: true,
  }));

type Place = Readonly<{ grantedAt: number; incarnation?: number; id: number }>;
export const byGrant = (a: Place, b: Place): number =>
  a.grantedAt - b.grantedAt || (a.incarnation ?? 0) - (b.incarnation ?? 0) || a.id - b.id;

/** Of each party in a block the last that was granted by then: they follow one another. */
export function reportedAt(tables: Tables, tenure: Tenure, { protocol, port, at }: PortInstant): readonly PastLease[] {
  const here = reportedPast(tables)
    .filter((row) => row.slice === tenure.slice && row.generation === tenure.generation && row.protocol === protocol)
    .filter((row) => row.grantedAt <= at);
  const partyOf = (row: PastLease) => `${row.ports.first}/${row.mode === 'shared' ? row.holder : ''}`;
  return here
    .filter((row) => !here.some((other) => partyOf(other) === partyOf(row) && other.grantedAt > row.grantedAt))
    .filter((row) => row.ports.first <= port && port <= row.ports.last && row.state !== 'refused')
    .filter((row) => row.emptyAt === null || row.emptyAt > at)
    .sort(byGrant)
    .map(({ incarnation: _, ...row }) => row);
}
