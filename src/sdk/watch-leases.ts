import type { Lease } from '../wire/leases.ts';
import type { Session } from '../wire/sessions.ts';
import { pause } from './backoff.ts';
import { everyItem, type FisheryClient } from './client.ts';
import { FisheryError } from './errors.ts';

export type WatchLeasesOptions = Readonly<{
  signal: AbortSignal;
  /** These leases have ended although the session lives: whatever uses their ports must stop. Called at most once. */
  onLost: (leases: readonly Lease[]) => void;
  onTrouble?: (error: FisheryError) => void;
  /** Default: a third of the session's time to live, as often as it is kept alive. */
  everyMs?: number;
}>;

/**
 * Looks at the leases of a living session at intervals, because a keepalive does not tell that one of them was revoked.
 * Resolves when some are lost or the signal aborts. An unreachable server is not a loss: how long it may be missing is
 * the keepalive's business.
 */
export async function watchLeases(client: FisheryClient, session: Session, options: WatchLeasesOptions): Promise<void> {
  const { signal, onLost, onTrouble = () => {}, everyMs = (session.ttl_s * 1_000) / 3 } = options;
  for (;;) {
    try {
      await pause(everyMs, signal);
      const gone: Lease[] = [];
      for await (const lease of everyItem((page) => client.leases.list({ ...page, session: session.id }, { signal })))
        if (lease.state !== 'active' && lease.state !== 'pending') gone.push(lease);
      if (gone.length === 0) continue;
      onLost(gone);
      return;
    } catch (thrown) {
      if (signal.aborted) return;
      if (!(thrown instanceof FisheryError)) throw thrown;
      onTrouble(thrown);
    }
  }
}
