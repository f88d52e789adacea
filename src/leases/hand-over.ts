import { err, ok, type Result } from '../net/result.ts';
import { noAgentFor } from './allocators.ts';
import type { Commands, IfRevision } from './commands.ts';
import type { LeaseError } from './errors.ts';
import { offerSlice } from './extents.ts';
import { guardShutAt } from './guard-shut.ts';
import type { Revocation, Slice } from './model.ts';
import type { Need, Needs } from './needs.ts';
import { begin } from './revocations.ts';
import { staleRevision } from './revisions.ts';
import { changeSlice, restIfLeft } from './slices.ts';
import type { Context, UseCase } from './use-case.ts';
import type { View } from './view.ts';
import { lookAtWants } from './wants.ts';

/**
 * How a slice leaves its machine. Always the same way: nothing new is granted in it, its leases end, its machine proves it
 * empty (or provably cannot send any more), it rests; then it goes where it was to go, one generation further.
 */

/** Back to the pool. */
export const drainSlice: UseCase<'drainSlice'> = {
  needs: ({ id }, { view }) => leavingSliceNeeds(view, id),

  decide(input, context) {
    const slice = ownedSlice(context.view, input);
    return slice.ok ? ok(drain(context, slice.value, { ...input, next: null, ending: 'revoked' })) : slice;
  },
};

/** To another machine. */
export const moveSlice: UseCase<'moveSlice'> = {
  *needs({ id, machine }, { view }) {
    yield [{ need: 'machine', id: machine }];
    yield* leavingSliceNeeds(view, id);
  },

  decide(input, context) {
    const { view } = context;
    const found = ownedSlice(view, input);
    if (!found.ok) return found;
    const target = view.machines.get(input.machine);
    if (!target) return err({ code: 'machine_not_found', machine: input.machine });
    if (target.state !== 'active') return err({ code: 'machine_not_active', machine: target.id, state: target.state });
    const slice = found.value;
    if (slice.machine === target.id) return err({ code: 'slice_there_already', slice: slice.id, machine: target.id });
    const { allocator = 'server' } = input;
    const nobody = noAgentFor(target, allocator);
    if (nobody) return err(nobody);
    const next = { machine: target.id, allocator };
    return ok(drain(context, slice, { ...input, next, ending: 'moved' }));
  },
};

/** To another allocator on the same machine: what one granted must be over before the other begins. */
export const handOverSlice: UseCase<'handOverSlice'> = {
  needs: ({ id }, { view }) => leavingSliceNeeds(view, id),

  decide(input, context) {
    const found = ownedSlice(context.view, input);
    if (!found.ok) return found;
    const slice = found.value;
    const owner = context.view.machines.get(slice.machine ?? '');
    if (!owner) throw new Error(`slice-${slice.id} is ${slice.state} on machine ${slice.machine}, which there is not`);
    const nobody = noAgentFor(owner, input.allocator);
    if (nobody) return err(nobody);
    const machine = owner.id;
    const isComing = slice.next?.machine === machine && slice.next.allocator === input.allocator;
    if (isComing || (slice.next === null && slice.state !== 'draining' && slice.allocator === input.allocator))
      return ok(slice);
    const next = { machine, allocator: input.allocator };
    return ok(drain(context, slice, { ...input, next, ending: 'moved' }));
  },
};

/**
 * From a machine that provably cannot send any more: its guard shut by itself when no keepalive was answered for its fence.
 * Nobody needs to prove anything then. The machine's keepalives are answered again only when it knows of it.
 */
export const reclaimSlice: UseCase<'reclaimSlice'> = {
  needs: ({ id }, { view }) => leavingSliceNeeds(view, id),

  decide(input, context) {
    const { view, now } = context;
    const found = ownedSlice(view, input);
    if (!found.ok) return found;
    const slice = found.value;
    if (slice.reclaimed) return ok(slice);
    const machine = view.machines.get(slice.machine ?? '');
    if (!machine) throw new Error(`slice-${slice.id} is on machine ${slice.machine}, which there is not`);
    if (machine.state !== 'fenced' && machine.state !== 'lost')
      return err({ code: 'machine_reachable', machine: machine.id, state: machine.state });
    const at = guardShutAt(machine, context);
    if (now < at) return err({ code: 'reclaim_too_early', slice: slice.id, machine: machine.id, at });
    return ok(reclaim(context, slice, machine.id));
  },
};

/** Takes a slice from a machine that cannot send; where it was on its way to, it goes. */
export function reclaim(context: Context, slice: Slice, from: string): Slice {
  const { view } = context;
  const { next } = slice;
  const taken = drain(context, slice, { force: true, next, ending: 'fenced' }, { reclaimed: true });
  const machine = view.machines.get(from);
  if (machine?.agent) view.machines.put({ ...machine, agent: { ...machine.agent, mustApply: view.revision } });
  return taken;
}

/** What `drain` looks at. */
export function* leavingSliceNeeds(view: View, id: number): Needs {
  yield [{ need: 'slice', id }, { need: 'endingRevocations' }];
  const slice = view.slices.get(id);
  if (slice?.machine == null) return;
  yield [
    { need: 'machine', id: slice.machine },
    { need: 'pool', id: slice.pool },
    { need: 'sliceTiles', slice: id },
    { need: 'occupants', slice: id },
  ] satisfies readonly Need[];
}

/** The slice, if a machine has it and is not just giving it back to rest. */
function ownedSlice(view: View, { id, ifRevision }: IfRevision & Readonly<{ id: number }>): Result<Slice, LeaseError> {
  const slice = view.slices.get(id);
  if (!slice) return err({ code: 'slice_not_found', slice: id });
  const stale = staleRevision(`slice-${id}`, ifRevision, slice.revision);
  if (stale) return err(stale);
  return slice.state === 'cooling' || slice.state === 'free'
    ? err({ code: 'slice_not_assigned', slice: id, state: slice.state })
    : ok(slice);
}

type Drain = Readonly<{
  deadlineUs?: Commands['drainSlice']['input']['deadlineUs'];
  force?: boolean;
  /** At this instant, instead of a length of time from now. */
  by?: number | null;
  next: Slice['next'];
  ending: Revocation['ending'];
}>;

/**
 * Begins to take a slice back, or goes on doing so on other terms. Its leases may go on until they end by themselves, or
 * until a deadline, of which the earliest counts. A slice that drains already keeps its revision when nothing changes.
 */
export function drain(
  context: Context,
  slice: Slice,
  { deadlineUs = null, force = false, by = null, next, ending }: Drain,
  change: Partial<Slice> = {},
): Slice {
  const { view, now } = context;
  const deadline = force ? now : deadlineUs === null ? by : now + deadlineUs;
  const isSooner = deadline !== null && (slice.drainBy === null || deadline < slice.drainBy);
  const drainBy = isSooner ? deadline : slice.drainBy;
  const isSame = slice.next?.machine === next?.machine && slice.next?.allocator === next?.allocator;
  if (slice.state === 'draining' && !isSooner && isSame && Object.keys(change).length === 0) return slice;
  const drainingSince = slice.drainingSince ?? now;
  const draining = changeSlice(view, slice, { ...change, state: 'draining', drainingSince, drainBy, next });
  if (slice.state !== 'draining') {
    offerSlice(view, draining);
    lookAtWants(view, slice.machine, now);
  }
  // A lease that ended and waits for its machine's proof is waited for in vain when the machine is out of reach.
  if (deadline !== null && (isSooner || ending === 'fenced') && view.occupantsOf(slice.id) > 0) {
    const nothingElse = { holder: null, pools: null, prefix: null, session: null, lease: null };
    const scope = { ...nothingElse, machine: slice.machine, slice: slice.id };
    begin(context, scope, { ending, reason: `slice-${slice.id} is ${reasons[ending]}`, forced: false, at: deadline });
  }
  return restIfLeft(context, draining);
}

const reasons: Readonly<Record<Revocation['ending'], string>> = {
  revoked: 'taken back',
  moved: 'changing hands',
  fenced: 'reclaimed from a machine out of reach',
};
