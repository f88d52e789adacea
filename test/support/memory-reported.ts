import type { NeedOf } from '../../src/leases/needs.ts';
import { isOccupied, overAtOf } from '../../src/leases/reported.ts';
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
