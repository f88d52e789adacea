import { matches, parseSelector } from '../net/selector.ts';
import { limits } from './limits.ts';
import type { Pool, Want } from './model.ts';
import type { Need, Needs } from './needs.ts';
import { assignUpTo, candidateNeeds, candidatesUpTo } from './slices.ts';
import type { Context } from './use-case.ts';
import type { View } from './view.ts';

/**
 * Machines get the slices that they want by themselves: one machine and a few slices at a step, so that nobody waits long
 * behind it. What drains no longer counts as had, and so is replaced.
 */

/** What a step looks at: the machine that waits longest, what it has, and as many candidates as it may get. */
export function* wantNeeds(view: View, now: number): Needs {
  yield [{ need: 'wantingMachines', before: now, limit: 1 }];
  const [machine] = view.due.wanting;
  if (!machine) return;
  yield shortageNeeds(machine.id);
  // What the wants before take of each pool is not there for those that come after.
  const taken = new Map<string, number>();
  for (const want of machine.wants) {
    const { family } = want;
    let count = Math.min(shortageOf(view, machine.id, want), limits.slices_per_want_step);
    for (const pool of poolsOf(view, want)) {
      if (count === 0) break;
      const before = taken.get(pool.id) ?? 0;
      const asked = { count: before + count, family };
      yield* candidateNeeds(view, pool, asked);
      const left = Math.max(0, candidatesUpTo(view, pool, asked).candidates.length - before);
      taken.set(pool.id, before + left);
      count -= left;
    }
  }
}

/**
 * Assigns what there is, and notes what is missing. A machine that got as much as one step gives is looked at again at once;
 * one that lacks something which is not there, a little later; one that has all, now and then: pools may change.
 */
export function satisfyWants({ view, now }: Context): Readonly<{ moved: number; more: boolean }> {
  const [due] = view.due.wanting;
  // As it is by now: a command before this one may have said something else of it.
  const machine = due && view.machines.get(due.id);
  if (machine?.state !== 'active' || machine.revision !== due?.revision) return { moved: 0, more: due !== undefined };
  let assigned = 0;
  let isCut = false;
  for (const want of machine.wants) {
    const { family, allocator } = want;
    const shortage = shortageOf(view, machine.id, want);
    let count = Math.min(shortage, limits.slices_per_want_step);
    for (const { id } of poolsOf(view, want)) {
      // As it is by now: its cursor moves with what was assigned before.
      const pool = view.pools.get(id);
      const got = pool && count > 0 ? assignUpTo(view, pool, machine, { count, family, allocator }) : 0;
      count -= got;
      assigned += got;
    }
    isCut ||= count === 0 && shortage > limits.slices_per_want_step;
  }
  const missing = shortagesOf(view, machine.id, machine.wants);
  const pauseUs = isCut
    ? 0
    : missing.some((slices) => slices > 0)
      ? limits.wants_unmet_look_us
      : limits.wants_met_look_us;
  // Nobody's news: whoever wants to know reads the machine.
  const after = view.machines.get(machine.id) ?? machine;
  view.machines.put({ ...after, wanting: { lookAt: now + pauseUs, missing } });
  return { moved: assigned + 1, more: true };
}

/** What must be loaded to say how many slices a machine is short of. */
export const shortageNeeds = (machine: string): readonly Need[] => [
  { need: 'pools' },
  { need: 'ownedSlices', machine },
];

/** How many slices the machine is short of, by the places of its wants. */
export const shortagesOf = (view: View, machine: string, wants: readonly Want[]): readonly number[] =>
  wants.map((want) => shortageOf(view, machine, want));

/** Something about its slices changes: what the machine wants is looked at with the next step. */
export function lookAtWants(view: View, id: string | null, now: number): void {
  const machine = id === null ? undefined : view.machines.get(id);
  if (machine && machine.wants.length > 0)
    view.machines.put({ ...machine, wanting: { ...machine.wanting, lookAt: now } });
}

export const sameWants = (a: readonly Want[], b: readonly Want[]): boolean => textOf(a) === textOf(b);

const textOf = (wants: readonly Want[]): string =>
  JSON.stringify(wants.map(({ pool, select, family, allocator, slices }) => [pool, select, family, allocator, slices]));

/** Each want by itself: a slice counts for every one that it meets. */
function shortageOf(view: View, machine: string, want: Want): number {
  let held = 0;
  for (const { id } of poolsOf(view, want)) held += view.ownedIn(machine, id, want);
  return Math.max(0, want.slices - held);
}

/** By name, so that it is always the same that is tried first. */
function poolsOf(view: View, { pool, select }: Want): readonly Pool[] {
  if (select === null) return [...view.pools.values()].filter(({ id }) => id === pool);
  const selector = parseSelector(select);
  if (!selector.ok) throw new Error(`the selector "${select}" of a want is none: ${selector.error}`);
  return [...view.pools.values()]
    .filter(({ labels }) => matches(selector.value, labels))
    .sort((a, b) => (a.id < b.id ? -1 : 1));
}
