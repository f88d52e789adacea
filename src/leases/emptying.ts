import { drain, leavingSliceNeeds, reclaim } from './hand-over.ts';
import { limits } from './limits.ts';
import { noteSettled } from './machines.ts';
import { together, type Needs } from './needs.ts';
import type { Context } from './use-case.ts';
import type { View } from './view.ts';

/**
 * What an operator said of a machine reaches its slices, a few at a step: of one that is draining each drains, of one that is
 * lost each is reclaimed, as soon as its guard has shut for certain.
 */

/** One step holds up others for no longer than the walk of a revocation does. */
const slices_per_step = 8;

/** What a step looks at: one machine, and of its slices some that have not followed. */
export function* emptyingNeeds(view: View, { now, startedAt }: Pick<Context, 'now' | 'startedAt'>): Needs {
  const skew = limits.clock_skew_us;
  yield [{ need: 'unsettledMachines', before: now - skew, fenceUsMax: now - skew - startedAt, limit: 1 }];
  const [machine] = view.due.emptying;
  if (!machine) return;
  // One more than are moved: whether those were all.
  const some = { machine: machine.id, limit: slices_per_step + 1 };
  const { drainBy } = machine;
  yield [
    machine.intent === 'lost' ? { need: 'unreclaimedSlices', ...some } : { need: 'undrainedSlices', drainBy, ...some },
  ];
  yield* together(view.due.staying.slice(0, slices_per_step).map(({ id }) => leavingSliceNeeds(view, id)));
}

/** How many rows moved, and whether there may be more. */
export function emptyMachines(context: Context): Readonly<{ moved: number; more: boolean }> {
  const { view } = context;
  const { emptying, staying } = view.due;
  const [due] = emptying;
  // As it is by now: a command before this one may have said something else of it.
  const machine = due && view.machines.get(due.id);
  if (!machine || machine.settled || machine.intent !== due.intent) return { moved: 0, more: false };
  const some = staying.slice(0, slices_per_step);
  for (const { id } of some) {
    const slice = view.slices.get(id);
    if (slice?.machine !== machine.id || slice.state === 'cooling' || slice.reclaimed) continue;
    if (machine.intent === 'lost') reclaim(context, slice, machine.id);
    else drain(context, slice, { by: machine.drainBy, next: slice.next, ending: 'revoked' });
  }
  if (staying.length <= slices_per_step) noteSettled(view, view.machines.get(machine.id) ?? machine);
  return { moved: some.length + 1, more: true };
}
