import { ok } from '../net/result.ts';
import { leave, leaseInEffect, leavingNeeds, needsProof } from './endings.ts';
import { emptyingNeeds, emptyMachines } from './emptying.ts';
import { hasLapsed } from './expiry.ts';
import { giveBack } from './extents.ts';
import { limits } from './limits.ts';
import { fenceMachine } from './machines.ts';
import { placeOf, type Session } from './model.ts';
import type { Need } from './needs.ts';
import { revocationNeeds, settleRevocations } from './revocations.ts';
import { extendSession, finishSession } from './sessions.ts';
import { settleRoutes, waitingNeeds, withdraw } from './routers.ts';
import { freeingNeeds } from './slices.ts';
import type { Context, UseCase } from './use-case.ts';
import { satisfyWants, wantNeeds } from './wants.ts';

/** What time alone brings about, in bounded steps. Repeat it while it says that there is more. */
export const sweep: UseCase<'sweep'> = {
  *needs({ itemsMax }, { view, now, startedAt }) {
    const window = { before: now, limit: boundOf(itemsMax) };
    yield [
      { need: 'dueSessions', ...window },
      { need: 'unsettledSessions', limit: boundOf(itemsMax) },
      { need: 'restedLeases', ...window },
      { need: 'restedExtents', ...window },
      { need: 'restedSlices', ...window },
      // Nobody could hear an agent before the server started, so each has its whole fence from then.
      { need: 'silentMachines', ...window, fenceUsMax: now - startedAt },
    ];
    const { due } = view;
    const rested = [...due.leases, ...due.extents];
    yield [
      ...due.unsettledLeases.flatMap(leavingNeeds),
      ...rested.map(({ slice }): Need => ({ need: 'slice', id: slice })),
      ...rested.map(({ slice, protocol, ports }): Need => ({ need: 'extentsAround', slice, protocol, ports })),
      ...due.slices.flatMap(freeingNeeds),
    ];
    const draining = due.unsettledLeases.filter(({ slice }) => view.slices.get(slice)?.state === 'draining');
    yield draining.map(({ slice }) => ({ need: 'occupants', slice }));
    yield* waitingNeeds(view, boundOf(itemsMax));
    yield* revocationNeeds(view, now, boundOf(itemsMax));
    yield* emptyingNeeds(view, { now, startedAt });
    yield* wantNeeds(view, now);
  },

  decide({ itemsMax }, context) {
    const limit = boundOf(itemsMax);
    const { due } = context.view;
    endOverdueSessions(context);
    settleEndedSessions(context, limit);
    const revoked = settleRevocations(context, limit);
    freeRestedPorts(context);
    for (const slice of due.slices) withdraw(context.view, slice);
    settleRoutes(context.view);
    for (const machine of due.machines) fenceMachine(context.view, machine);
    const emptied = emptyMachines(context);
    const wanted = satisfyWants(context);
    const { unsettled, unsettledLeases, sessions, leases, extents, slices, machines, routed, withdrawn } = due;
    const kinds = [sessions, leases, extents, slices, machines, routed, withdrawn];
    const settled = unsettledLeases.length + unsettled.length + revoked.moved + emptied.moved + wanted.moved;
    const moved = kinds.reduce((sum, rows) => sum + rows.length, settled);
    const more =
      revoked.more ||
      emptied.more ||
      wanted.more ||
      [...kinds, unsettled, unsettledLeases].some((rows) => rows.length >= limit);
    return ok({ moved, more });
  },
};

const boundOf = (itemsMax: number): number => Math.min(itemsMax, limits.sweep_items_max);

function endOverdueSessions(context: Context): void {
  for (const session of context.view.due.sessions) {
    if (hasLapsed(session, context)) finishSession(context.view, session, 'expired');
    // Durable, so that the same session is not looked at again in every sweep until then.
    else extendSession(context.view, session, context.startedAt);
  }
}

/**
 * Brings the rows of leases in line with what their ended session made of them. That is not news: everybody who follows
 * the log has derived it from the session. Where nobody needs to prove anything they go on to their rest, which is.
 */
function settleEndedSessions(context: Context, limit: number): void {
  const { view } = context;
  const { unsettled, unsettledLeases } = view.due;
  for (const { id } of unsettledLeases) {
    const lease = leaseInEffect(view, id);
    if (!lease) throw new Error(`lease-${id} is gone from the view`);
    if (needsProof(view, lease)) view.leases.put(lease);
    else leave(context, lease);
  }
  // The leases come ordered by session: when the window was full, the last session in it may have more.
  const isWhole = unsettledLeases.length < limit;
  const last = unsettledLeases.at(-1)?.session ?? 0;
  const isSettled = (session: Session) => isWhole || session.id < last;
  for (const session of unsettled) if (isSettled(session)) view.sessions.put({ ...session, settled: true });
}

/** Leases that rested are over, and their ports are free. That too was said before: the log told when it would be. */
function freeRestedPorts({ view, now }: Context): void {
  for (const lease of view.due.leases) {
    const slice = view.slices.get(lease.slice);
    if (!slice) throw new Error(`slice-${lease.slice} of a cooling lease is missing`);
    // Log time may run ahead of the clock, which may have been set back: a lease is never over before it was empty.
    view.leases.put({ ...lease, state: 'ended', endedAt: Math.max(now, lease.emptyAt ?? now) });
    giveBack(view, slice, lease.protocol, lease.ports, lease.emptyAt ?? now);
  }
  for (const extent of view.due.extents) {
    const slice = view.slices.get(extent.slice);
    if (!slice) throw new Error(`slice-${extent.slice} of a cooling extent is missing`);
    view.extents.remove(placeOf(extent));
    giveBack(view, slice, extent.protocol, extent.ports, extent.restedSince);
  }
}
