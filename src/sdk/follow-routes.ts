import type { RouteChange, RouteSnapshot } from '../wire/routes.ts';
import type { FisheryClient, RouteFilter } from './client.ts';
import { followLog, type FollowOptions } from './follow-log.ts';

export type FollowedRoutes =
  | Readonly<{ type: 'snapshot'; snapshot: RouteSnapshot }>
  | Readonly<{ type: 'change'; change: RouteChange }>
  | Readonly<{ type: 'bookmark'; revision: number }>;

/**
 * Where packets that come back belong, and every change of it, in order, each once: a snapshot, then the changes after it,
 * over as many connections as it takes. A lost connection is resumed from the last revision that was seen; when the
 * server no longer has the changes since then, a new snapshot comes instead, which replaces all that came before.
 *
 * What is made true is then acknowledged with `client.routers.applied`: machines wait for it.
 *
 * Runs until `signal` aborts (then it returns) or until the server refuses for good (no such router, token revoked): then
 * it throws that FisheryError.
 */
export async function* followRoutes(
  client: FisheryClient,
  filter: RouteFilter = {},
  options: FollowOptions = {},
): AsyncGenerator<FollowedRoutes, void, undefined> {
  const log = {
    name: 'the routes',
    takeSnapshot: (signal: AbortSignal | undefined) => client.routes.get(filter, signal ? { signal } : {}),
    openStream: (from: number, signal: AbortSignal) => client.routes.watch(filter, from, signal),
    onReached: (revision: number) => client.reached(revision),
  };
  for await (const item of followLog<RouteSnapshot, RouteChange>(log, options))
    // Nobody asks a router anything.
    if (item.type !== 'query' && item.type !== 'request') yield item;
}
