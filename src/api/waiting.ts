import type { Slice } from '../leases/model.ts';
import { awaited } from '../leases/routing.ts';
import type * as wire from '../wire/slices.ts';
import type { Parts } from './parts.ts';
import { presentSlice } from './present.ts';

const routers_per_page = 1_000;

/** The slices, and for those that wait: for which routers, and for how long. */
export async function presentWaiting({ reader, clock }: Parts, slices: readonly Slice[]): Promise<wire.Slice[]> {
  const waiting = slices.filter(({ route }) => route === 'adding' || route === 'removing');
  if (waiting.length === 0) return slices.map(presentSlice);
  const names = [...new Set(waiting.map(({ pool }) => pool))];
  const pools = new Map(await Promise.all(names.map(async (name) => [name, await reader.pool(name)] as const)));
  const { items: routers } = await reader.routers({}, { limit: routers_per_page, cursor: null });
  const now = clock.nowUs();
  return slices.map((slice): wire.Slice => {
    const pool = waiting.includes(slice) ? pools.get(slice.pool) : undefined;
    if (!pool) return presentSlice(slice);
    const age_s = Math.max(0, now - slice.routeSince) / 1_000_000;
    return { ...presentSlice(slice), waiting_for: { routers: [...awaited(slice, pool, routers)], age_s } };
  });
}
