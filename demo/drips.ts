import { setTimeout as sleep } from 'node:timers/promises';
import type { Lease } from '../src/wire/leases.ts';
import type { Flow } from './flows.ts';
import { fetchOne, type Fetch, type Fetched } from './visits.ts';
import { isIn, type World } from './world.ts';

/** A download that goes on for a while, 16 KiB every 50 ms. */
export type Drip = Readonly<{ from: string; sha256: string; ended: Promise<Fetched> }>;

export const dripSeconds = (kib: number): number => (kib / 16) * 0.05;

export async function startDrip(world: World, request: Omit<Fetch, 'namespace' | 'path'>, kib: number): Promise<Drip> {
  const path = `/drip?kib=${kib}&every_ms=50`;
  const ended = fetchOne({ ...request, namespace: world.lab.client, path });
  return { from: request.from, sha256: await world.sha256Of(kib * 1024), ended };
}

/**
 * Flows of fish in this block that stand now, and will for some seconds: fish chooses a flow's block by chance, so as many
 * downloads are begun as it takes.
 */
export async function standingFlow(world: World, lease: Lease): Promise<Flow> {
  for (let attempt = 0; attempt < 10; attempt++) {
    for (let i = 0; i < 3; i++) void startDrip(world, { from: 'client', maxTimeS: 12 }, 2_048);
    await sleep(400);
    const since = Date.now() * 1_000 - 300_000;
    const found = (await world.capture.flows()).find(
      (flow) => isIn(lease, flow) && flow.senders.includes('client') && flow.last > since && !flow.closed,
    );
    if (found) return found;
  }
  throw new Error(`fish took no port of ${lease.id} for any of 30 flows`);
}
