import { covers } from './coverage.ts';
import type { Lease, Revocation, Session } from './model.ts';

type Terms = Pick<Session, 'expiresAt' | 'ttlUs'>;

/**
 * When the session is over unless it is kept alive. Nobody could keep it alive while no server ran, so after a start each
 * session has a full TTL before it.
 */
export const deadlineOf = (session: Terms, startedAt: number): number =>
  Math.max(session.expiresAt, startedAt + session.ttlUs);

/**
 * Late is late, also when the sweeper has not come by yet: otherwise what a holder may do would depend on how busy the
 * server happens to be.
 */
export const hasLapsed = (session: Terms, time: Readonly<{ now: number; startedAt: number }>): boolean =>
  time.now >= deadlineOf(session, time.startedAt);

/**
 * The lease as it is in effect. The end of a session, or a revocation, ends many leases in one row; until each lease's own
 * row has followed, what it says about being pending or active is no longer true.
 */
export function inEffect(
  lease: Lease,
  session: Pick<Session, 'state' | 'ending' | 'endedAt'> | undefined,
  revocations: readonly Revocation[],
): Lease {
  if (lease.state === 'ending' && !lease.forced && isForcedBy(lease, revocations)) return { ...lease, forced: true };
  if (lease.state !== 'pending' && lease.state !== 'active') return lease;
  let end: Pick<Lease, 'ending' | 'endingAt' | 'reason'> | undefined;
  if (session?.state === 'ended') end = { ending: session.ending, endingAt: session.endedAt, reason: lease.reason };
  // Whichever came first; no two things happen at the same instant of the log.
  for (const revocation of revocations) {
    const isFirst = end === undefined || (revocation.endedAt ?? 0) < (end.endingAt ?? 0);
    if (revocation.state !== 'waiting' && isFirst && covers(revocation, lease))
      end = { ending: revocation.ending, endingAt: revocation.endedAt, reason: revocation.reason };
  }
  // Whatever came first, what is forced waits for nobody.
  return end ? { ...lease, ...end, state: 'ending', forced: isForcedBy(lease, revocations) } : lease;
}

const isForcedBy = (lease: Lease, revocations: readonly Revocation[]): boolean =>
  revocations.some((revocation) => revocation.forced && revocation.state !== 'waiting' && covers(revocation, lease));
