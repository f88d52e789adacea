import { err, ok } from '../net/result.ts';
import { blockedNeeds, blockAfterRefusal, clearBlocked } from './blocked.ts';
import type { ClearReport, LeaseReport, RejectedReport, RejectionCode, SliceReport } from './commands.ts';
import { endingNeeds, endLive, leave, leaveBlock, leaseInEffect, putLease } from './endings.ts';
import { takenUntil } from './guard-shut.ts';
import { limits } from './limits.ts';
import { formatToken, type Lease, type Slice } from './model.ts';
import { together, type Needs } from './needs.ts';
import { confirmSlice, restSlice } from './slices.ts';
import type { Context, UseCase } from './use-case.ts';
import type { View } from './view.ts';
import { lookAtWants } from './wants.ts';

type Rejection = Readonly<{ code: RejectionCode; detail: string }>;

/** What an agent made true on its machine. Each item stands alone: a rejected one moves nothing, the others count. */
export const report: UseCase<'report'> = {
  *needs({ machine, leases, slices, clear = [] }, { view }) {
    yield* together([
      machineNeeds(machine),
      ...leases.map(({ lease }) => endingNeeds(view, lease)),
      ...slices.map((item) => sliceNeeds(view, item)),
      ...clear.map((item) => clearNeeds(view, item)),
    ]);
  },

  decide({ machine: id, bootId, revision, leases, slices, clear = [] }, context) {
    const { view } = context;
    if (leases.length + slices.length + clear.length > limits.reports_max)
      throw new Error('too many reports in one command');
    const machine = view.machines.get(id);
    if (!machine) return err({ code: 'machine_not_found', machine: id });
    const takenTo = bootId === undefined ? undefined : takenUntil(machine, bootId, context);
    if (takenTo !== undefined) return err({ code: 'machine_taken', machine: id, at: takenTo });
    if (revision > view.revision) return err({ code: 'revision_unknown', revision, newest: view.revision });
    if (machine.agent && revision > machine.agent.appliedRevision)
      view.machines.put({ ...machine, agent: { ...machine.agent, appliedRevision: revision } });
    const rejected: RejectedReport[] = [];
    const note = (item: string, rejection: Rejection | undefined) => {
      if (rejection) rejected.push({ item, ...rejection });
    };
    // Leases first: a slice is empty only when its leases are, and both may be said in one report.
    for (const item of leases) note(`lease-${item.lease}`, onLease(context, id, item));
    for (const item of slices) note(`slice-${item.slice}`, onSlice(context, id, item));
    for (const item of clear) note(`slice-${item.slice}`, onClear(context, id, item));
    return ok({ revision: view.revision, rejected });
  },
};

function* machineNeeds(id: string): Needs {
  yield [{ need: 'machine', id }];
}

function* sliceNeeds(view: View, { slice: id, state }: SliceReport): Needs {
  yield [{ need: 'slice', id }];
  const slice = view.slices.get(id);
  if (!slice) return;
  if (state === 'assigned' && slice.state === 'assigning') yield [{ need: 'sliceTiles', slice: id }];
  if (state === 'empty' && (slice.state === 'draining' || mayBeGivenBack(slice)))
    yield [
      { need: 'pool', id: slice.pool },
      { need: 'occupants', slice: id },
      { need: 'reportedOccupants', slice: id, generation: slice.generation },
    ];
}

function onLease(context: Context, machine: string, item: LeaseReport): Rejection | undefined {
  const { view } = context;
  const lease = leaseInEffect(view, item.lease);
  if (!lease) return { code: 'lease_not_found', detail: 'no lease has this id' };
  if (lease.machine !== machine) return { code: 'not_yours', detail: `it is on machine ${lease.machine}` };
  if (item.token !== formatToken(lease))
    return { code: 'stale_token', detail: `its token is ${formatToken(lease)}, not ${item.token}` };
  if (lease.ending === 'fenced')
    return { code: 'reclaimed', detail: 'it was ended while its machine was out of reach' };
  switch (item.state) {
    case 'active':
      // A lease that is ending stays so: the agent learns of it by the log, if it has not yet.
      if (lease.state === 'pending')
        putLease(view, lease, (revision, at) => ({ ...lease, state: 'active', activeAt: at, revision }));
      return undefined;
    case 'refused':
      return onRefusal(context, lease, item);
    case 'unit_gone':
      if (lease.unit === null) return { code: 'no_unit', detail: 'it is not reserved for a unit' };
      if (lease.state === 'pending' || lease.state === 'active')
        endLive(context, lease, 'released', `the unit ${lease.unit} is gone`);
      return undefined;
    case 'empty':
      if (lease.state === 'ending') leave(context, lease);
      return lease.state === 'pending' || lease.state === 'active'
        ? { code: 'in_use', detail: `it is ${lease.state}` }
        : undefined;
  }
}

function onRefusal(
  context: Context,
  lease: Lease,
  { errno, detail }: Readonly<{ errno: string; detail: string }>,
): Rejection | undefined {
  const { view } = context;
  if (lease.state === 'active') return { code: 'already_active', detail: 'it was reported active before' };
  // Whatever the kernel would not have, somebody may have used the ports before: only `empty` says that nobody does.
  if (lease.state === 'ending')
    return { code: 'in_use', detail: 'it is ending: that it was refused is no proof that nobody is on its ports' };
  if (lease.state !== 'pending') return undefined;
  leaveBlock(view, lease);
  const refused = putLease(view, lease, (revision, at) => {
    return { ...lease, state: 'refused', refusal: { errno, detail }, endedAt: at, revision };
  });
  blockAfterRefusal(context, lease, refused.endedAt ?? context.now, `${errno}: ${detail}`);
  return undefined;
}

function onSlice(context: Context, machine: string, item: SliceReport): Rejection | undefined {
  const { view } = context;
  const slice = view.slices.get(item.slice);
  if (!slice) return { code: 'slice_not_found', detail: 'no slice has this id' };
  if (slice.machine !== machine) return { code: 'not_yours', detail: `it is not on machine ${machine}` };
  if (slice.generation !== item.generation)
    return { code: 'stale_token', detail: `its generation is ${slice.generation}, not ${item.generation}` };
  if (slice.reclaimed) return { code: 'reclaimed', detail: 'it was taken back while its machine was out of reach' };
  if (item.state === 'assigned') {
    if (slice.route === 'adding') return { code: 'not_routed', detail: 'its routers do not know the way to it yet' };
    if (slice.state === 'assigning') confirmSlice(view, slice);
    return undefined;
  }
  if ((slice.state === 'assigning' || slice.state === 'assigned') && !mayBeGivenBack(slice))
    return { code: 'in_use', detail: `it is ${slice.state}, not draining` };
  if (slice.state === 'cooling' || slice.state === 'free') return undefined;
  const occupants = view.occupantsOf(slice.id);
  if (occupants > 0) return { code: 'in_use', detail: `${occupants} of its leases are not reported empty` };
  const reported = view.reportedOccupantsOf(slice);
  if (reported > 0)
    return { code: 'in_use', detail: `${reported} leases that its broker reported there are not told to be empty` };
  restSlice(context, slice);
  // One that drains was missed from when it began to.
  if (slice.state !== 'draining') lookAtWants(view, slice.machine, context.now);
  return undefined;
}

/**
 * Where its machine grants, only the machine knows whether anybody has ports of it; and a table that was restored has slices
 * assigned that their machines gave back. A machine never grants again in what it gave back.
 */
const mayBeGivenBack = ({ state, allocator }: Slice): boolean =>
  allocator === 'machine' && (state === 'assigning' || state === 'assigned');

function* clearNeeds(view: View, { slice: id, protocol, ports }: ClearReport): Needs {
  yield [{ need: 'slice', id }];
  const slice = view.slices.get(id);
  if (slice) yield blockedNeeds(slice, protocol, ports);
}

function onClear(
  context: Context,
  machine: string,
  { slice: id, generation, ...where }: ClearReport,
): Rejection | undefined {
  const slice = context.view.slices.get(id);
  if (!slice) return { code: 'slice_not_found', detail: 'no slice has this id' };
  if (slice.machine !== machine) return { code: 'not_yours', detail: `it is not on machine ${machine}` };
  if (slice.generation !== generation)
    return { code: 'stale_token', detail: `its generation is ${slice.generation}, not ${generation}` };
  if (clearBlocked(context, slice, where.protocol, where.ports)) return undefined;
  const { first, last } = where.ports;
  return { code: 'nothing_blocked', detail: `nothing of ${first}-${last}/${where.protocol} is blocked` };
}
