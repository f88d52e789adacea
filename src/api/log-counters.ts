import type { Event } from '../leases/model.ts';

/** What is counted: each thing once, as it happens, whoever caused it. */
export type LogCounters = Readonly<{
  granted: (protocol: string, mode: string) => void;
  refused: (protocol: string) => void;
  leaseEnded: (ending: string) => void;
  sessionOpened: () => void;
  sessionEnded: (ending: string) => void;
}>;

/** Counts what an event tells. From the log and not from the requests: the sweeper ends things, too. */
export function countEvent(event: Event, counters: LogCounters): void {
  if (event.kind === 'lease') {
    const { lease } = event;
    if (lease.id === event.revision) counters.granted(lease.protocol, lease.mode);
    if (lease.state === 'refused') counters.refused(lease.protocol);
    // Leases of an ended session have no event when they begin to end, but each has one when it was proven empty.
    if (lease.emptyAt === event.at && lease.ending !== null) counters.leaseEnded(lease.ending);
  }
  if (event.kind === 'session') {
    if (event.session.id === event.revision) counters.sessionOpened();
    if (event.session.ending !== null) counters.sessionEnded(event.session.ending);
  }
}
