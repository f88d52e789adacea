import { err, ok } from '../net/result.ts';
import { limits } from './limits.ts';
import { sameLabels, type Router, type Slice } from './model.ts';
import type { Need, Needs } from './needs.ts';
import { knownThrough } from './routing.ts';
import { confirmRoute, freeingNeeds, freeSlice, withdrawRoute } from './slices.ts';
import { endToken } from './tokens.ts';
import type { UseCase } from './use-case.ts';
import type { View } from './view.ts';

export const putRouter: UseCase<'putRouter'> = {
  *needs({ id }) {
    yield [{ need: 'router', id }];
  },

  decide({ id, labels }, { view }) {
    const found = view.routers.get(id);
    if (found && sameLabels(found.labels, labels)) return ok(found);
    const { router } = view.log(null, (revision, at) => {
      const said = { appliedRevision: found?.appliedRevision ?? 0, seenAt: found?.seenAt ?? null };
      const router: Router = { id, labels, ...said, createdAt: found?.createdAt ?? at, updatedAt: at, revision };
      return { kind: 'router', router };
    });
    view.routers.put(router);
    return ok(router);
  },
};

/** What waited for it alone goes on with the next sweep. */
export const deleteRouter: UseCase<'deleteRouter'> = {
  *needs({ id }) {
    yield [
      { need: 'router', id },
      { need: 'routerTokens', router: id },
    ];
  },

  decide({ id }, { view }) {
    const found = view.routers.get(id);
    if (!found) return err({ code: 'router_not_found', router: id });
    for (const token of [...view.accessTokens.values()]) if (token.router === id) endToken(view, token);
    view.log(null, () => ({ kind: 'deleted', what: 'router', id }));
    view.routers.remove(id);
    return ok(found);
  },
};

/** One row and no event; what it was waited for goes on, as much of it as one step may move, and the rest with the sweeps. */
export const routerApplied: UseCase<'routerApplied'> = {
  *needs({ router: id, revision }, { view }) {
    yield [{ need: 'router', id }];
    const router = view.routers.get(id);
    if (!router || revision > view.revision) return;
    yield* waitingNeeds(view, limits.sweep_items_max, { ...router, appliedRevision: revision });
  },

  decide({ router: id, revision }, { view, now }) {
    const router = view.routers.get(id);
    if (!router) return err({ code: 'router_not_found', router: id });
    if (revision > view.revision) return err({ code: 'revision_unknown', revision, newest: view.revision });
    // A late message does not take back what a newer one said.
    const applied = { ...router, appliedRevision: Math.max(revision, router.appliedRevision), seenAt: now };
    view.routers.put(applied);
    settleRoutes(view);
    return ok(applied);
  },
};

/**
 * Loads what the routers there are no longer stand in the way of, at most `limit` slices of each pool and kind. `said`
 * counts instead of what is stored about that router, where it says more.
 */
export function* waitingNeeds(view: View, limit: number, said?: Router): Needs {
  yield [{ need: 'waitingPools' }];
  if (view.waitingPools.length === 0) return;
  yield [{ need: 'routers' }, ...view.waitingPools.map((id): Need => ({ need: 'pool', id }))];
  const routers = [...view.routers.values()].map((router) =>
    router.id === said?.id && said.appliedRevision > router.appliedRevision ? said : router,
  );
  yield view.waitingPools.flatMap((id) => {
    const pool = view.pools.get(id);
    if (!pool) throw new Error(`pool ${id} of a slice that waits is missing`);
    return (['adding', 'removing'] as const).map((route): Need => {
      return { need: 'waitingSlices', pool: id, route, through: knownThrough(pool, routers, route), limit };
    });
  });
  const { routed, withdrawn } = view.due;
  yield [...routed, ...withdrawn].flatMap((slice): readonly Need[] => [
    ...freeingNeeds(slice),
    ...(slice.machine === null ? [] : [{ need: 'machine', id: slice.machine } as const]),
  ]);
}

/** What was found to wait for no router any more goes on. To be called once, in a batch that nothing else changes slices in. */
export function settleRoutes(view: View): void {
  for (const { id, generation } of [...view.due.routed, ...view.due.withdrawn]) {
    // As it is now: the same step may have withdrawn what the routers had just come to know, or given it to another.
    const slice = view.slices.get(id);
    if (slice?.generation !== generation) continue;
    if (slice.route === 'adding') confirmRoute(view, slice);
    if (slice.route === 'removing' && view.due.withdrawn.some((due) => due.id === id)) freeSlice(view, slice);
  }
}

/** Its rest is over: it is free at once where no router is asked, otherwise when those that count have let go of it. */
export function withdraw(view: View, slice: Slice): void {
  const demand = view.pools.get(slice.pool)?.routers;
  if (demand === undefined || demand.policy === 'none') freeSlice(view, slice);
  else withdrawRoute(view, slice);
}
