import { familyOf, type Address } from '../net/address.ts';
import { err, ok, type Result } from '../net/result.ts';
import { canAllocate, countOwn, noAgentFor } from './allocators.ts';
import { isWithheld } from './carve-outs.ts';
import { blockedNeeds, clearBlocked } from './blocked.ts';
import type { Commands } from './commands.ts';
import type { LeaseError } from './errors.ts';
import { offerSlice, removeExtents, tileSlice } from './extents.ts';
import { limits } from './limits.ts';
import {
  audienceOf,
  tenureKey,
  type Allocator,
  type Machine,
  type Pool,
  type RouteState,
  type Slice,
} from './model.ts';
import type { Need, NeedOf, Needs } from './needs.ts';
import { staleRevision } from './revisions.ts';
import { slotBeginningAt, slotsAhead, type Slot } from './slots.ts';
import type { Context, UseCase } from './use-case.ts';
import type { View } from './view.ts';

type Assignment = Commands['assignSlices']['input'];
type Asked = Pick<Assignment, 'count' | 'family'>;
/** Either a slice that was given back and rested, or the place of one that was never made. */
type Candidate = Readonly<{ returned: Slice } | { slot: Slot }>;
type Choice = Readonly<{ candidates: readonly Candidate[]; cursors: Pool['cursors'] }>;

export const assignSlices: UseCase<'assignSlices'> = {
  *needs(input, { view }): Needs {
    yield [
      { need: 'pool', id: input.pool },
      { need: 'machine', id: input.machine },
    ];
    const pool = view.pools.get(input.pool);
    if (!pool) return;
    if (input.at) {
      yield [madeAt(pool, input.at.address, input.at.firstPort)];
      return;
    }
    yield* candidateNeeds(view, pool, input);
  },

  decide(input, context) {
    const { view } = context;
    const pool = view.pools.get(input.pool);
    if (!pool) return err({ code: 'pool_not_found', pool: input.pool });
    const machine = view.machines.get(input.machine);
    if (!machine) return err({ code: 'machine_not_found', machine: input.machine });
    if (machine.state !== 'active')
      return err({ code: 'machine_not_active', machine: machine.id, state: machine.state });
    const { allocator = 'server' } = input;
    const nobody = noAgentFor(machine, allocator);
    if (nobody) return err(nobody);
    const found = input.at ? exactCandidate(view, pool, input.at) : nextCandidates(view, pool, input);
    if (!found.ok) return found;
    moveCursors(view, pool, found.value);
    return ok(found.value.candidates.map((candidate) => assign(view, pool, machine, candidate, allocator)));
  },
};

/** An operator's word that the stranger is gone. Its ports rest like any others that were in use. */
export const unblock: UseCase<'unblock'> = {
  *needs({ slice: id, protocol, ports }, { view }) {
    yield [{ need: 'slice', id }];
    const slice = view.slices.get(id);
    if (!slice) return;
    yield blockedNeeds(slice, protocol, ports);
  },

  decide({ slice: id, protocol, ports, ifRevision }, context) {
    const { view } = context;
    const slice = view.slices.get(id);
    if (!slice) return err({ code: 'slice_not_found', slice: id });
    const stale = staleRevision(`slice-${id}`, ifRevision, slice.revision);
    if (stale) return err(stale);
    if (slice.state === 'cooling' || slice.state === 'free')
      return err({ code: 'slice_not_assigned', slice: id, state: slice.state });
    if (!clearBlocked(context, slice, protocol, ports)) return err({ code: 'nothing_blocked', slice: id, protocol });
    return ok(changeSlice(view, slice, {}));
  },
};

/** The machine made the slice its own: from here on it is granted from. */
export function confirmSlice(view: View, slice: Slice): void {
  offerSlice(view, changeSlice(view, slice, { state: 'assigned' }));
}

/** Nobody on its machine can send from it any more: it rests as long as the protocol with the longest cooldown. */
export function restSlice({ view, now }: Context, slice: Slice): Slice {
  const cooldowns = Object.values(view.pools.get(slice.pool)?.cooldownUs ?? {});
  return changeSlice(view, slice, {
    state: 'cooling',
    drainingSince: null,
    reusableAt: now + Math.max(0, ...cooldowns),
  });
}

/**
 * Where no agent could prove a draining slice empty, or none needs to, the table's word counts: it rests as soon as nothing
 * lives in it. So it does when its machine was never told of it, because the routers did not know the way yet.
 */
export function restIfLeft(context: Context, slice: Slice): Slice {
  const { view } = context;
  const isUnproven =
    slice.reclaimed || slice.route === 'adding' || view.machines.get(slice.machine ?? '')?.enforcement === 'none';
  const isLeft = slice.state === 'draining' && isUnproven && view.occupantsOf(slice.id) === 0;
  return isLeft ? restSlice(context, slice) : slice;
}

/** What `freeSlice` looks at. */
export const freeingNeeds = ({ id, generation, pool, machine, allocator, next }: Slice): readonly Need[] => [
  { need: 'sliceTiles', slice: id },
  { need: 'tenure', slice: id, generation },
  { need: 'pool', id: pool },
  ...(machine === null || allocator === 'server' ? [] : [{ need: 'machine', id: machine } as const]),
  ...(next === null ? [] : [{ need: 'machine', id: next.machine } as const]),
];

/**
 * The rest is over: the slice leaves its machine, and goes to the next one if that takes new ones still. What has the name
 * of the next machine by now may be another one, without an agent that could allocate.
 */
export function freeSlice(view: View, slice: Slice): void {
  const tenure = view.tenures.get(tenureKey(slice.id, slice.generation));
  removeExtents(view, slice);
  countOwn(view, slice, -1);
  const { slice: freed } = view.log(slice.machine, (revision, at) => {
    if (tenure) view.tenures.put({ ...tenure, until: at });
    // Where the way was withdrawn before, nothing changes for routers.
    const way = routeAs('none', slice.route === 'removing' ? slice.routeRevision : revision, at);
    const owner = { machine: null, state: 'free', assignedAt: null } as const;
    return { kind: 'slice', slice: { ...slice, ...owner, ...stays, ...way, revision } };
  });
  view.slices.put(freed);
  if (slice.next === null) return;
  const machine = view.machines.get(slice.next.machine);
  const pool = view.pools.get(slice.pool);
  const { allocator } = slice.next;
  const isTaken = machine?.state === 'active' && canAllocate(machine, allocator);
  if (isTaken && pool?.createdAt === slice.poolBornAt && !isWithheld(pool, freed))
    assign(view, pool, machine, { returned: freed }, allocator);
}

/** The way to it goes from the routers; it stays with its machine until they have let go. */
export function withdrawRoute(view: View, slice: Slice): void {
  const { slice: changed } = view.log(slice.machine, (revision, at) => ({
    kind: 'slice',
    slice: { ...slice, ...routeAs('removing', revision, at), revision },
  }));
  view.slices.put(changed);
}

/** The routers know the way: the machine is told of the slice. Where nobody has to confirm it, it is granted from at once. */
export function confirmRoute(view: View, slice: Slice): void {
  const isTrusted = view.machines.get(slice.machine ?? '')?.enforcement === 'none';
  const state = slice.state === 'assigning' && isTrusted ? 'assigned' : slice.state;
  const { slice: changed } = view.log(slice.machine, (revision, at) => ({
    kind: 'slice',
    // A router need not acknowledge this: nothing changed for it.
    slice: { ...slice, state, ...routeAs('routed', slice.routeRevision, at), revision },
  }));
  view.slices.put(changed);
  offerSlice(view, changed);
}

/** Of a slice that is not to leave its machine. */
const stays = { drainingSince: null, drainBy: null, next: null, reclaimed: false } as const;

const routeAs = (
  route: RouteState,
  revision: number,
  at: number,
): Pick<Slice, 'route' | 'routeRevision' | 'routeSince'> => ({
  route,
  routeRevision: revision,
  routeSince: at,
});

export function changeSlice(view: View, slice: Slice, change: Partial<Slice>): Slice {
  const { slice: changed } = view.log(audienceOf(slice), (revision) => ({
    kind: 'slice',
    slice: { ...slice, ...change, revision },
  }));
  view.slices.put(changed);
  return changed;
}

/** What can be chosen of: returned slices, and the slots ahead. */
export function* candidateNeeds(view: View, pool: Pool, asked: Asked): Needs {
  yield* returnedNeeds(view, pool, asked);
  yield* freshNeeds(view, pool, asked);
}

/**
 * Asks for the slots ahead of the cursors until enough of them turn out to be unmade. Those in between were assigned by
 * name before the cursor came there; it passes them now, so each is stepped over once in the life of the pool.
 */
function* freshNeeds(view: View, pool: Pool, { count, family }: Asked): Needs {
  let missing = count - returnedSlices(view, pool, family).length;
  let round: Slot[] = [];
  let roundSize = missing;
  for (const slot of missing > 0 ? slotsAhead(pool, family) : []) {
    round.push(slot);
    if (round.length < roundSize) continue;
    yield round.map((slot) => madeAt(pool, slot.address, slot.ports.first));
    missing -= round.filter((asked) => !view.madeAt(pool, asked.address, asked.ports.first)).length;
    if (missing <= 0) return;
    round = [];
    roundSize = Math.min(2 * roundSize, limits.slices_per_assign_max);
  }
  yield round.map((slot) => madeAt(pool, slot.address, slot.ports.first));
}

const madeAt = (pool: Pool, address: Address, port: number): Need => ({
  need: 'madeAt',
  poolBornAt: pool.createdAt,
  address,
  port,
});

/** Window after window, until there are enough that the pool did not carve out or give up since they were last in use. */
function* returnedNeeds(view: View, pool: Pool, { count, family }: Asked): Needs {
  const limit = limits.slices_per_assign_max;
  const terms = { need: 'returnedSlices', pool: pool.id, poolBornAt: pool.createdAt, family } as const;
  let known = 0;
  for (let after: NeedOf<'returnedSlices'>['after'] = null; ;) {
    yield [{ ...terms, after, limit: known === 0 ? count : limit }];
    const last = returned(view, pool, family).at(-1);
    const found = returned(view, pool, family).length;
    const wasFull = found - known >= (known === 0 ? count : limit);
    if (!last || !wasFull || returnedSlices(view, pool, family).length >= count) return;
    known = found;
    after = { reusableAt: last.reusableAt ?? 0, id: last.id };
  }
}

const returned = (view: View, pool: Pool, family: Assignment['family']): readonly Slice[] =>
  [...view.slices.values()]
    .filter((slice) => slice.poolBornAt === pool.createdAt && slice.state === 'free' && isOfFamily(slice, family))
    .sort((a, b) => (a.reusableAt ?? 0) - (b.reusableAt ?? 0) || a.id - b.id);

const returnedSlices = (view: View, pool: Pool, family: Assignment['family']): readonly Slice[] =>
  returned(view, pool, family).filter((slice) => !isWithheld(pool, slice));

function nextCandidates(view: View, pool: Pool, input: Assignment): Result<Choice, LeaseError> {
  const { count } = input;
  if (count > limits.slices_per_assign_max) throw new Error(`${count} slices in one command`);
  const choice = candidatesUpTo(view, pool, input);
  const available = choice.candidates.length;
  return available < count ? err({ code: 'slices_exhausted', pool: pool.id, wanted: count, available }) : ok(choice);
}

/** As many as there are, if not as many as are asked for. */
export function candidatesUpTo(view: View, pool: Pool, { count, family }: Asked): Choice {
  // Returned ones first: the table then grows no larger than what was ever in use at once.
  const candidates: Candidate[] = returnedSlices(view, pool, family)
    .slice(0, count)
    .map((slice) => ({ returned: slice }));
  const cursors = [...pool.cursors];
  for (const slot of slotsAhead(pool, family)) {
    if (candidates.length === count || !view.knowsMadeAt(pool, slot.address, slot.ports.first)) break;
    if (!view.madeAt(pool, slot.address, slot.ports.first)) candidates.push({ slot });
    cursors[slot.prefix] = slot.slot + 1n;
  }
  return { candidates, cursors };
}

/** Gives the machine as many slices as there are, up to so many; how many that were. */
export function assignUpTo(
  view: View,
  pool: Pool,
  machine: Machine,
  { allocator, ...asked }: Asked & Readonly<{ allocator: Allocator }>,
): number {
  const choice = candidatesUpTo(view, pool, asked);
  moveCursors(view, pool, choice);
  for (const candidate of choice.candidates) assign(view, pool, machine, candidate, allocator);
  return choice.candidates.length;
}

/** Not news to anybody: no event. */
function moveCursors(view: View, pool: Pool, { cursors }: Choice): void {
  if (cursors.some((cursor, prefix) => cursor !== pool.cursors[prefix])) view.pools.put({ ...pool, cursors });
}

const isOfFamily = (slice: Slice, family: Assignment['family']) =>
  family === null || familyOf(slice.address) === family;

function exactCandidate(view: View, pool: Pool, at: NonNullable<Assignment['at']>): Result<Choice, LeaseError> {
  if (at.firstPort % pool.slicePorts !== 0)
    return err({ code: 'slice_misaligned', firstPort: at.firstPort, slicePorts: pool.slicePorts });
  const slot = slotBeginningAt(pool, at.address, at.firstPort);
  if (!slot) return err({ code: 'slice_outside_pool', ...at, pool: pool.id });
  if (isWithheld(pool, slot)) return err({ code: 'slice_carved_out', ...at, pool: pool.id });
  const slice = view.madeAt(pool, at.address, at.firstPort);
  if (slice && slice.state !== 'free')
    return err({ code: 'slice_taken', ...at, machine: slice.machine, state: slice.state });
  // The cursor stays where it is: behind a slot that was asked for by name there may be others that were never made.
  return ok({ candidates: [slice ? { returned: slice } : { slot }], cursors: pool.cursors });
}

function assign(view: View, pool: Pool, machine: Machine, candidate: Candidate, allocator: Allocator): Slice {
  const route = pool.routers.policy === 'none' ? 'routed' : 'adding';
  const isUsable = machine.enforcement === 'none' && route === 'routed';
  const { slice } = view.log(audienceOf({ machine: machine.id, route }), (revision, at) => {
    const place =
      'returned' in candidate
        ? { ...candidate.returned, generation: candidate.returned.generation + 1 }
        : { id: revision, address: candidate.slot.address, ports: candidate.slot.ports, generation: 1 };
    const state = isUsable ? 'assigned' : 'assigning';
    const owner = { pool: pool.id, poolBornAt: pool.createdAt, machine: machine.id, state, ...stays } as const;
    const way = routeAs(route, revision, at);
    return {
      kind: 'slice',
      slice: { ...place, ...owner, allocator, assignedAt: at, reusableAt: null, ...way, revision },
    };
  });
  view.slices.put(slice);
  countOwn(view, slice, 1);
  view.tenures.put({
    slice: slice.id,
    generation: slice.generation,
    machine: machine.id,
    address: slice.address,
    ports: slice.ports,
    allocator: slice.allocator,
    from: slice.assignedAt,
    until: null,
  });
  tileSlice(view, slice);
  return slice;
}
