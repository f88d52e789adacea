import type { Address, Family } from '../net/address.ts';
import type { PortRange } from '../net/ports.ts';
import type { Prefix } from '../net/prefix.ts';
import type { Protocol } from '../net/protocol.ts';
import { limits } from './limits.ts';
import type { Allocator, Binding } from './model.ts';
import type { View } from './view.ts';

/**
 * What a batch of commands must have before it decides: values that any store can turn into queries. Each bounded one
 * says how many rows are enough; none asks for "all the leases of …".
 */
export type Need =
  // By key: the row, or the knowledge that there is none.
  | Readonly<{ need: 'pool'; id: string }>
  | Readonly<{ need: 'machine'; id: string }>
  | Readonly<{ need: 'holder'; machine: string; name: string }>
  /** The holder on this machine with this user id; there is one at most. */
  | Readonly<{ need: 'holderByUid'; machine: string; uid: number }>
  /** The holders on this machine that have a cgroup; they are few. */
  | Readonly<{ need: 'holdersInCgroups'; machine: string }>
  | Readonly<{ need: 'slice'; id: number }>
  | Readonly<{ need: 'tenure'; slice: number; generation: number }>
  | Readonly<{ need: 'session'; id: number }>
  | Readonly<{ need: 'lease'; id: number }>
  | Readonly<{ need: 'block'; slice: number; protocol: Protocol; first: number }>
  | Readonly<{ need: 'accessToken'; id: number }>
  | Readonly<{ need: 'router'; id: string }>
  | Readonly<{ need: 'keptAnswer'; token: number; key: string }>
  | Readonly<{ need: 'epoch'; number: number }>
  | Readonly<{ need: 'epochById'; id: string }>
  | Readonly<{ need: 'broker'; machine: string }>
  | Readonly<{ need: 'reportedSession'; machine: string; incarnation: number; id: number }>
  | Readonly<{ need: 'reportedLease'; machine: string; incarnation: number; id: number }>
  /** Whether any machine but this one and those that are shut out (fenced, lost) has not told since an instant that it applied no higher revision than this. */
  | Readonly<{ need: 'unheard'; except: string; since: number; after: number }>
  /**
   * Whether the guard of any machine with an agent, but those that are lost, may be open for what a table lost: an agent that
   * has applied a revision after `after` and before `from`, or was not heard `since` the loss was found, and whose guard,
   * `fenceUs` after the last answer, has not shut by `openAt`.
   */
  | Readonly<{ need: 'behind'; since: number; after: number; from: number; openAt: number }>
  /** The slice with this port of this address, if a machine has it. */
  | Readonly<{ need: 'sliceAt'; address: Address; port: number }>
  /** The first assigned slice of the machine on this address that this one grants in. */
  | Readonly<{ need: 'offeredAt'; machine: string; address: Address; allocator: Allocator }>
  /** The first slice that the machine has on this address, whatever its state. */
  | Readonly<{ need: 'ownedAt'; machine: string; address: Address }>
  /** The slice that this pool made at this port of this address, whatever its state. */
  | Readonly<{ need: 'madeAt'; poolBornAt: number; address: Address; port: number }>
  /** The first slice that a machine has within the prefix, with any of these ports. */
  | Readonly<{ need: 'ownedWithin'; prefix: Prefix; ports: PortRange | null }>
  /** The slice of the pool with the lowest id among those that machines have. */
  | Readonly<{ need: 'ownedOfPool'; pool: string }>
  /** The last entry of the audit log. */
  | Readonly<{ need: 'auditEnd' }>
  /** The slice of the machine with the lowest id. */
  | Readonly<{ need: 'ownedByMachine'; machine: string }>
  /** The live session on the machine with the lowest id. */
  | Readonly<{ need: 'liveSession'; machine: string }>
  /** The session of the holder with the lowest id among those that are live, or whose leases have not all followed. */
  | Readonly<{ need: 'sessionOfHolder'; machine: string; holder: string }>
  /** The lease of the holder with the lowest id among those that are ending, and reservations that are pending or active. */
  | Readonly<{ need: 'leaseOfHolder'; machine: string; holder: string }>
  // Whole, because few by nature.
  | Readonly<{ need: 'machineHolders'; machine: string }>
  /** Those that are not revoked. */
  | Readonly<{ need: 'machineTokens'; machine: string }>
  | Readonly<{ need: 'routerTokens'; router: string }>
  /** How many slices the machine has that are assigned, or are being assigned, by pool, family and allocator. */
  | Readonly<{ need: 'ownedSlices'; machine: string }>
  | Readonly<{ need: 'pools' }>
  | Readonly<{ need: 'routers' }>
  /** The pools with slices whose routers have not all acknowledged that a route came or went. */
  | Readonly<{ need: 'waitingPools' }>
  /** The (pool, family) pairs that the machine has assigned, server-allocated slices of. */
  | Readonly<{ need: 'offers'; machine: string }>
  /** Those that it has assigned slices of which it grants in itself. */
  | Readonly<{ need: 'ownOffers'; machine: string }>
  /** Every extent and every shared block of the slice. */
  | Readonly<{ need: 'sliceTiles'; slice: number }>
  /** How many leases of the slice are pending, active or ending. */
  | Readonly<{ need: 'occupants'; slice: number }>
  /** How many leases that the machine reported in this generation of the slice were not told to be empty. */
  | Readonly<{ need: 'reportedOccupants'; slice: number; generation: number }>
  /** The pending, active or ending lease of this holder in the shared block. */
  | Readonly<{ need: 'membership'; slice: number; protocol: Protocol; first: number; holder: string }>
  /** The extents that overlap the ports or touch them on either side. */
  | Readonly<{ need: 'extentsAround'; slice: number; protocol: Protocol; ports: PortRange }>
  /** The live lease that overlaps the ports: of several the one that begins last, in a shared block the oldest there. */
  | Readonly<{ need: 'occupant'; slice: number; protocol: Protocol; ports: PortRange }>
  /** How many ports of the machine are in which use, and the largest aligned block that is free, by pool and family. */
  | Readonly<{ need: 'room'; machine: string; protocol: Protocol }>
  /** When the next ports of the machine leave cooldown. */
  | Readonly<{ need: 'nextRest'; machine: string; protocol: Protocol }>
  /** The holders of the machine that have limits, and what each of them has. */
  | Readonly<{ need: 'limitedHolders'; machine: string }>
  /** What the holders of the machine have, against what was noted of it when last they were counted. */
  | Readonly<{ need: 'heldRecount'; machine: string }>
  /** How many sessions of the holder are live; `up`: for how long the server has been (microseconds). */
  | Readonly<{ need: 'liveSessions'; machine: string; holder: string; now: number; up: number }>
  // Windows: the best `limit` rows, in the order in which they would be chosen.
  /** Offered extents with fit ≥ order: tightest fit first, then longest rested, then by slice and first port. */
  | Readonly<{
      need: 'offeredExtents';
      machine: string;
      protocol: Protocol;
      pool: string;
      family: Family;
      order: number;
      limit: number;
    }>
  /**
   * Offered shared blocks (of `ports` ports, when given) that the holder has no pending, active or ending lease in: fewest
   * members first. Among so many of the least crowded only, see limits.shared_blocks_looked_at_max.
   */
  | Readonly<{
      need: 'joinableBlocks';
      machine: string;
      holder: string;
      protocol: Protocol;
      binding: Binding;
      pool: string;
      family: Family;
      ports: number | null;
      limit: number;
    }>
  /** Offered extents with fit ≥ order on one address of the machine, in the same order. */
  | Readonly<{
      need: 'extentsAt';
      machine: string;
      protocol: Protocol;
      address: Address;
      order: number;
      limit: number;
    }>
  /** Like `joinableBlocks`, on one address of the machine. */
  | Readonly<{
      need: 'joinableAt';
      machine: string;
      holder: string;
      protocol: Protocol;
      binding: Binding;
      address: Address;
      ports: number | null;
      limit: number;
    }>
  /**
   * The best offered extent with fit ≥ order of each slice that has one, by slice: of `limit` slices at most, among the
   * first of the machine, see limits.slices_looked_at_max.
   */
  | Readonly<{
      need: 'roomySlices';
      machine: string;
      protocol: Protocol;
      pool: string;
      family: Family;
      order: number;
      limit: number;
    }>
  /** Slices of the pool that were given back and rested: the longest first; those that come after this one. */
  | Readonly<{
      need: 'returnedSlices';
      pool: string;
      poolBornAt: number;
      family: Family | null;
      after: Readonly<{ reusableAt: number; id: number }> | null;
      limit: number;
    }>
  /** Revocations in effect whose leases have not all followed; there are few at a time. */
  | Readonly<{ need: 'endingRevocations' }>
  // A walk along the leases that a revocation may cover: slices that machines have, by id, from this one on …
  | Readonly<{
      need: 'revokedSlices';
      revocation: number;
      machine: string | null;
      pools: readonly string[] | null;
      prefix: Prefix | null;
      slice: number | null;
      from: number;
      limit: number;
    }>
  /** … and the live leases of one, by protocol (as text), first port and id, after this place. */
  | Readonly<{
      need: 'leasesAlong';
      slice: number;
      after: Readonly<{ protocol: Protocol; first: number; lease: number }> | null;
      limit: number;
    }>
  /** What lives of a machine's reports and was told of in earlier snapshots only; in no order. */
  | Readonly<{ need: 'lostSessions'; machine: string; before: number; limit: number }>
  | Readonly<{ need: 'lostLeases'; machine: string; before: number; limit: number }>
  /** Slices of the pool whose route came (or went) at a revision of at most `through`, and stands as unacknowledged. */
  | Readonly<{ need: 'waitingSlices'; pool: string; route: 'adding' | 'removing'; through: number; limit: number }>
  // What time brings about: the rows that are due, the oldest first.
  | Readonly<{ need: 'dueSessions'; before: number; limit: number }>
  /** Ended sessions whose leases have not all followed, and the first `limit` pending or active leases of these, by session. */
  | Readonly<{ need: 'unsettledSessions'; limit: number }>
  /** Revocations whose time has come. */
  | Readonly<{ need: 'dueRevocations'; before: number; limit: number }>
  | Readonly<{ need: 'restedLeases'; before: number; limit: number }>
  | Readonly<{ need: 'restedExtents'; before: number; limit: number }>
  /** Cooling slices without any live lease whose route was not withdrawn yet. */
  | Readonly<{ need: 'restedSlices'; before: number; limit: number }>
  /**
   * Machines with an agent that was not heard of for its fence, among those with a fence of at most so long: those that are
   * not known as fenced or lost already.
   */
  | Readonly<{ need: 'silentMachines'; before: number; fenceUsMax: number; limit: number }>
  /**
   * Machines that are to be emptied and not settled, by name: of those that are lost, the ones whose agent was not heard of
   * for its fence by then, among those with a fence of at most so long.
   */
  | Readonly<{ need: 'unsettledMachines'; before: number; fenceUsMax: number; limit: number }>
  /** Active machines whose wants are to be looked at, the longest due first. */
  | Readonly<{ need: 'wantingMachines'; before: number; limit: number }>
  /** Slices of the machine, by id, that do not drain yet, or (where it is given) not by this instant. */
  | Readonly<{ need: 'undrainedSlices'; machine: string; drainBy: number | null; limit: number }>
  /** Slices of the machine, by id, that do not rest yet and were not reclaimed. */
  | Readonly<{ need: 'unreclaimedSlices'; machine: string; limit: number }>;

export type NeedKind = Need['need'];
export type NeedOf<K extends NeedKind> = Extract<Need, { need: K }>;

/** What a use case asks for, round by round: what it asks next may depend on what came. */
export type Needs = Generator<readonly Need[], void, void>;

/** Several needs at once, round by round. */
export function* together(all: readonly Needs[]): Needs {
  let open = all;
  while (open.length > 0) {
    const round: Need[] = [];
    open = open.filter((needs) => {
      const step = needs.next();
      if (step.done !== true) round.push(...step.value);
      return step.done !== true;
    });
    if (round.length > 0) yield round;
  }
}

/**
 * The rounds of a whole batch, without what is known already. The caller loads a round into the view before it asks for
 * the next.
 */
export function* roundsOf(all: readonly Needs[], view: View): Needs {
  for (const asked of together(all)) {
    const contests = contestsIn(asked);
    const round = asked.map((need) => beginningOf(need, contests.get(need))).filter((need) => view.ask(need));
    if (round.length > 0) yield round;
    const rest = restOf(asked, contests, view).filter((need) => view.ask(need));
    if (rest.length > 0) yield rest;
    // Whichever candidate is chosen, its slice says which address and generation the lease gets.
    const slices = round.some(isContested) ? slicesOf(view).filter((need) => view.ask(need)) : [];
    if (slices.length > 0) yield slices;
  }
}

function slicesOf(view: View): readonly Need[] {
  const ids = new Set<number>();
  for (const { slice } of view.extents.values()) ids.add(slice);
  for (const { slice } of view.blocks.values()) ids.add(slice);
  return [...ids].map((id) => ({ need: 'slice', id }));
}

type Contested = NeedOf<'offeredExtents' | 'joinableBlocks' | 'extentsAt' | 'joinableAt' | 'roomySlices'>;
/** Claims of one batch for the same kind of ports: how many, and the exponent of the largest block among them. */
type Contest = { readonly name: string; claims: number; order: number };

const contested: ReadonlySet<Need['need']> = new Set<Contested['need']>([
  ...(['offeredExtents', 'joinableBlocks', 'extentsAt', 'joinableAt', 'roomySlices'] as const),
]);
const isContested = (need: Need): need is Contested => contested.has(need.need);
const contestOf = (need: Contested) =>
  `${need.need}/${need.machine}/${need.protocol}/${'pool' in need ? `${need.pool}/${need.family}` : need.address}`;

/** The contest that each of the needs is in, if any. */
function contestsIn(asked: readonly Need[]): ReadonlyMap<Need, Contest> {
  const contests = new Map<string, Contest>();
  const ofNeed = new Map<Need, Contest>();
  for (const need of asked) {
    if (!isContested(need)) continue;
    const name = contestOf(need);
    let contest = contests.get(name);
    if (!contest) contests.set(name, (contest = { name, claims: 0, order: 0 }));
    contest.claims += need.limit;
    if (need.need === 'offeredExtents') contest.order = Math.max(contest.order, need.order);
    ofNeed.set(need, contest);
  }
  return ofNeed;
}

/**
 * Claims that compete for the same ports must not run out of candidates because earlier ones in the batch took them.
 * Each claim spoils at most one candidate, so every window becomes as long as there are claims that compete for it:
 * then one is left for the last of them, unless the store has no more.
 */
const widened = (need: Contested, { claims }: Contest): Contested => ({ ...need, limit: claims });

/** What to ask for at first: of a long window of extents its beginning, because one extent may serve hundreds of claims. */
function beginningOf(need: Need, contest: Contest | undefined): Need {
  if (!contest || !isContested(need)) return need;
  const isLong = need.need === 'offeredExtents' && contest.claims > limits.window_rows_first;
  return isLong ? { ...need, limit: limits.window_rows_first } : widened(need, contest);
}

/**
 * The long windows whose beginning may not be enough. Blocks are aligned, so a claim spoils one block of the largest size
 * in the contest at most: where the beginning has as many of these as there are claims, one is left for the last of them,
 * and no extent beyond it would be chosen before.
 */
function restOf(asked: readonly Need[], contests: ReadonlyMap<Need, Contest>, view: View): readonly Need[] {
  const rest = new Map<string, Need>();
  for (const need of asked) {
    const contest = contests.get(need);
    if (need.need !== 'offeredExtents' || !contest || contest.claims <= limits.window_rows_first) continue;
    const key = `${contest.name}/${need.order}`;
    if (rest.has(key)) continue;
    if (view.roomIn(need, limits.window_rows_first, contest.order) < contest.claims)
      rest.set(key, widened(need, contest));
  }
  return [...rest.values()];
}
