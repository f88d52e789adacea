import { matches, parseSelector } from '../net/selector.ts';
import type { Pool, Router, RouterDemand, Slice } from './model.ts';

/** What a pool's demand on routers comes to. Pure arithmetic over the few routers there are. */

/** Every revision there could be is known: nobody is waited for. */
const everything = Number.MAX_SAFE_INTEGER;

/** Of the routers there are, those that the pool names. */
export function demanded({ ids, select }: RouterDemand, routers: readonly Router[]): readonly Router[] {
  if (ids !== null) return routers.filter(({ id }) => ids.includes(id));
  if (select === null) return routers;
  const selector = parseSelector(select);
  if (!selector.ok) throw new Error(`the selector "${select}" of a pool is none: ${selector.error}`);
  return routers.filter(({ labels }) => matches(selector.value, labels));
}

/**
 * The newest revision at which a route of the pool may have come (gone) for enough routers to know. Thereby what waits can
 * be found in the order of revisions, and nothing that is stuck stands in front of what is not.
 */
export function knownThrough(pool: Pool, routers: readonly Router[], route: 'adding' | 'removing'): number {
  const { ids, policy } = pool.routers;
  if (policy === 'none') return everything;
  const applied = demanded(pool.routers, routers).map(({ appliedRevision }) => appliedRevision);
  // A router that does not exist cannot know the way; but neither can it send anything a way that was withdrawn.
  const all = route === 'removing' ? applied.length : Math.max(1, ids?.length ?? applied.length);
  const wanted = policy === 'all' ? all : route === 'removing' ? Math.min(policy, all) : policy;
  return wanted === 0 ? everything : (applied.sort((a, b) => b - a)[wanted - 1] ?? -1);
}

/** The routers that have yet to acknowledge how the slice's route stands, also those that are named and do not exist. */
export function awaited(slice: Slice, pool: Pool, routers: readonly Router[]): readonly string[] {
  if (slice.route !== 'adding' && slice.route !== 'removing') return [];
  if (pool.routers.policy === 'none') return [];
  const there = demanded(pool.routers, routers);
  const behind = there.filter(({ appliedRevision }) => appliedRevision < slice.routeRevision).map(({ id }) => id);
  const ids = slice.route === 'adding' ? (pool.routers.ids ?? []) : [];
  const missing = ids.filter((id) => !there.some((router) => router.id === id));
  return [...behind, ...missing].sort();
}

/** Whether packets to the slice are to go to its machine. */
export const hasRoute = ({ route }: Pick<Slice, 'route'>): boolean => route === 'adding' || route === 'routed';
