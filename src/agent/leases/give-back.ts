import { setTimeout as sleep } from 'node:timers/promises';
import type { Lease } from '../../wire/leases.ts';
import type { AgentParts } from '../agent-parts.ts';
import type { LeasesOnHost } from './leases-on-host.ts';
import type { Owner } from '../host/sets.ts';
import { whenOver } from '../start/waiting.ts';

/** How long a planned stop may wait for fish's leases to be given back. */
const give_back_ms = 8_000;

export type GiveBackParts = Pick<AgentParts, 'fish' | 'terminator' | 'reports' | 'broker' | 'log'> &
  Readonly<{ leases: Pick<LeasesOnHost, 'holds'> }>;

/** Ends the sessions of fish and the terminator and waits until their leases are off the host and the server knows. Never throws. */
export async function giveBack({ fish, terminator, reports, broker, leases, log }: GiveBackParts): Promise<void> {
  if (!fish && !terminator) return;
  const patience = AbortSignal.timeout(give_back_ms);
  const all = async (): Promise<void> => {
    // Its sockets are in nobody's way but its own leases'.
    await terminator?.stop({ leave: false });
    await Promise.all([fish?.leases.end(), terminator?.leases.end()]);
    const isOurs = (lease: Lease, owner: Owner) => owner.kind === 'fish' || lease.holder === terminator?.holder;
    while (leases.holds(isOurs) && !patience.aborted) await sleep(20);
    await Promise.all([reports.settled(), broker?.reports.settled()]);
  };
  try {
    const late = whenOver(patience).then(() => Promise.reject(new Error(`not done within ${give_back_ms} ms`)));
    await Promise.race([all(), late]);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    log.warn(`leases were not all given back, their session will run out: ${reason}`);
  }
}
