import { formatToken, type Event, type Lease, type Session } from '../leases/model.ts';
import type { UsageRow } from '../leases/store.ts';
import type { ReportedLease, ReportedPorts, ReportedSession } from '../wire/broker.ts';
import { formatInstant } from '../wire/instants.ts';

/** Rows of the broker's table as they are told to the server. */

const instantOrNull = (us: number | null): string | null => (us === null ? null : formatInstant(us));

export const reportedSession = (session: Session): ReportedSession => ({
  id: `session-${session.id}`,
  holder: session.holder,
  state: session.state,
  ending: session.ending,
  ttl_s: Math.max(1, Math.round(session.ttlUs / 1e6)),
  expires_at: formatInstant(session.expiresAt),
  opened_at: formatInstant(session.openedAt),
  ended_at: instantOrNull(session.endedAt),
  revision: session.revision,
});

export const reportedLease = (lease: Lease): ReportedLease => ({
  id: `lease-${lease.id}`,
  token: formatToken(lease),
  session: lease.session === null ? null : `session-${lease.session}`,
  holder: lease.holder,
  slice: `slice-${lease.slice}`,
  protocol: lease.protocol,
  ports: lease.ports,
  mode: lease.mode,
  binding: lease.binding,
  state: lease.state,
  ending: lease.ending,
  refusal: lease.refusal,
  granted_at: formatInstant(lease.grantedAt),
  active_at: instantOrNull(lease.activeAt),
  ending_at: instantOrNull(lease.endingAt),
  empty_at: instantOrNull(lease.emptyAt),
  reusable_at: instantOrNull(lease.reusableAt),
  ended_at: instantOrNull(lease.endedAt),
  revision: lease.revision,
});

/** Who grants in a slice of this table is told elsewhere: all of them are the machine's. */
export const reportedPorts = (rows: readonly UsageRow[]): ReportedPorts[] =>
  rows.flatMap(({ pool, family, protocol, state, ports }) =>
    state === 'machine_allocated' ? [] : [{ pool, family, protocol, state, ports }],
  );

/** The last word about each session and lease that the events are about. */
export function changedIn(events: readonly Event[]): { sessions: ReportedSession[]; leases: ReportedLease[] } {
  const sessions = new Map<number, Session>();
  const leases = new Map<number, Lease>();
  for (const event of events) {
    if (event.kind === 'session') sessions.set(event.session.id, event.session);
    if (event.kind === 'lease') leases.set(event.lease.id, event.lease);
  }
  return { sessions: [...sessions.values()].map(reportedSession), leases: [...leases.values()].map(reportedLease) };
}
