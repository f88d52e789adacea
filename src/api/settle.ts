import type { Lease } from '../leases/model.ts';
import type { Context } from './context.ts';

const isRefused = (lease: Lease): boolean => lease.refusal !== null;

/**
 * Waits until none of the leases that were just granted is pending any more, or one is refused: then something is to be
 * done before the rest is known. Returns them as they are then; when `timeoutMs` is over or the server stops, as they are so far. All are of one session, so of one machine.
 */
export async function untilSettled(
  { feed, reader, stopping }: Context,
  granted: readonly Lease[],
  timeoutMs: number,
): Promise<readonly Lease[]> {
  if (granted.every((lease) => lease.state !== 'pending')) return granted;
  const ids = new Set(granted.map((lease) => lease.id));
  const session = granted[0]?.session;
  let leases = granted;
  await feed.waitFor({
    // The leases of an ended session, or of a revocation, are over without an event for each.
    wakes: (event) =>
      (event.kind === 'lease' && ids.has(event.lease.id)) ||
      (event.kind === 'session' && event.session.id === session && event.session.state === 'ended') ||
      (event.kind === 'revocation' && event.revocation.state === 'ending'),
    isDone: async () => {
      leases = await Promise.all(granted.map(async (lease) => (await reader.lease(lease.id)) ?? lease));
      return leases.some(isRefused) || leases.every((lease) => lease.state !== 'pending');
    },
    timeoutMs,
    signal: stopping,
  });
  return leases;
}
