import type { Lease, Session } from './model.ts';

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
 * The lease as it is in effect. A session ends all its leases in one row; until each lease's own row has followed, what
 * it says about being pending or active is no longer true.
 */
export function inEffect(lease: Lease, session: Pick<Session, 'state' | 'ending' | 'endedAt'> | undefined): Lease {
  if (session?.state !== 'ended' || (lease.state !== 'pending' && lease.state !== 'active')) return lease;
  return { ...lease, state: 'ending', ending: session.ending, endingAt: session.endedAt };
}
