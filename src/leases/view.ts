import { familyOf, type Address, type Family } from '../net/address.ts';
import { cgroupsOverlap } from '../net/cgroup.ts';
import { rangesOverlap, type PortRange } from '../net/ports.ts';
import type { Protocol } from '../net/protocol.ts';
import { ExtentIndex } from './extent-index.ts';
import {
  answerKey,
  hasOccupants,
  holderKey,
  placeKey,
  placeOf,
  tenureKey,
  type AccessToken,
  type Allocator,
  type AuditEntry,
  type Epoch,
  type EpochCause,
  type Event,
  type Extent,
  type Holder,
  type KeptAnswer,
  type Lease,
  type Machine,
  type Pool,
  type Revocation,
  type Router,
  type Session,
  type SharedBlock,
  type Slice,
  type Tenure,
  type Want,
} from './model.ts';
import type { Changes, HeldPorts } from './changes.ts';
import { nothingDue } from './due.ts';
import type { Need, NeedOf } from './needs.ts';
import { isOccupied, reportedKey, type Broker, type ReportedLease, type ReportedSession } from './reported.ts';
import type { UsageRow } from './store.ts';
import { heldMoved } from './usage.ts';
import { hasLapsed } from './expiry.ts';
import { Journal, Table } from './table.ts';

/** What the store itself found: the table may lack what was answered before. */
export type Loss = Readonly<{
  cause: EpochCause;
  detail: string;
  /** The highest revision that is known to have been given out. */
  revision: number;
  /** A random identity for the epoch that begins. */
  newId: string;
}>;

/** Where the log stands. `epoch` is the allocator epoch that tokens carry; `confirmedAt` is null while it is in doubt. */
export type LogEnd = Readonly<{
  epoch: number;
  confirmedAt: number | null;
  revision: number;
  lastEventAt: number;
  loss?: Loss | undefined;
  /** Which database this is, where that can be told: a part of the identity of each epoch that begins here. */
  database?: string;
}>;

/** The last entry of the audit log; zeros when there is none. */
export type AuditEnd = Readonly<{ id: number; at: number }>;
/** Something that a machine can be granted from. */
export type Offer = Readonly<{ pool: string; family: Family }>;

/** `fit`: exponent of the largest aligned block that may be granted from; null where the row is not of free ports. */
export type RoomRow = UsageRow & Readonly<{ fit: number | null }>;

/** How many slices of a pool and family a machine has that one allocator grants in. */
export type Owned = Readonly<{ pool: string; family: Family; allocator: Allocator; slices: number }>;

/** An event without what the log itself adds. */
type Content = Event extends infer E ? (E extends Event ? Omit<E, 'revision' | 'at' | 'machine'> : never) : never;

/**
 * The part of the table that a batch touches, in memory. The store fills it (`load…`), commands read and change it one
 * after the other, so that each sees what the ones before it decided, and `changes()` is what came out. A command that
 * fails is rewound and leaves no trace.
 */
export class View {
  readonly #journal = new Journal();
  readonly #extentIndex = new ExtentIndex();
  /** By holder and place of the shared block: how many leases the view knows that are pending, active or ending. */
  readonly #memberships = new Map<string, Map<string, number>>();

  readonly pools = new Table<Pool, string>('pool', (row) => row.id, this.#journal);
  readonly machines = new Table<Machine, string>('machine', (row) => row.id, this.#journal);
  readonly holders = new Table<Holder, string>('holder', (row) => holderKey(row.machine, row.name), this.#journal);
  readonly slices = new Table<Slice, number>('slice', (row) => row.id, this.#journal);
  readonly tenures = new Table<Tenure, string>('tenure', (row) => tenureKey(row.slice, row.generation), this.#journal);
  readonly sessions = new Table<Session, number>('session', (row) => row.id, this.#journal);
  readonly leases = new Table<Lease, number>(
    'lease',
    (row) => row.id,
    this.#journal,
    (before, after) => {
      this.#countMember(before, -1);
      this.#countMember(after, 1);
    },
  );
  readonly extents = new Table<Extent, string>('extent', placeOf, this.#journal, (before, after) =>
    this.#extentIndex.replace(before, after),
  );
  readonly blocks = new Table<SharedBlock, string>('shared block', placeOf, this.#journal);
  readonly revocations = new Table<Revocation, number>('revocation', (row) => row.id, this.#journal);
  readonly accessTokens = new Table<AccessToken, number>('access token', (row) => row.id, this.#journal);
  readonly routers = new Table<Router, string>('router', (row) => row.id, this.#journal);
  readonly keptAnswers = new Table<KeptAnswer, string>(
    'kept answer',
    (row) => answerKey(row.token, row.key),
    this.#journal,
  );
  readonly epochs = new Table<Epoch, number>('epoch', (row) => row.number, this.#journal);
  readonly brokers = new Table<Broker, string>('broker', (row) => row.machine, this.#journal);
  readonly reportedSessions = new Table<ReportedSession, string>('reported session', reportedKey, this.#journal);
  readonly reportedLeases = new Table<ReportedLease, string>('reported lease', reportedKey, this.#journal);

  /** What the store found due, oldest first. The rows themselves are in the tables too. */
  readonly due = nothingDue();

  /** What the store found along the way of a revocation, in order. */
  readonly walk = { slices: [] as Slice[], leases: new Map<number, Lease[]>() };

  readonly #end: LogEnd;
  readonly #now: number;
  readonly #events: Event[] = [];
  readonly #audit: AuditEntry[] = [];
  #auditEnd: AuditEnd | undefined;
  #standing: Readonly<{ epoch: number; confirmedAt: number | null; base: number }>;
  readonly #asked = new Set<string>();
  #asksForRevocations = false;
  readonly #offers = new Map<string, readonly Offer[]>();
  readonly #ownOffers = new Map<string, readonly Offer[]>();
  #waitingPools: readonly string[] | undefined;
  readonly #owned = new Map<string, readonly Owned[]>();
  readonly #occupants = new Map<number, number>();
  readonly #reportedOccupants = new Map<string, number>();
  readonly #machinesThere = new Map<'unheard' | 'behind', boolean>();
  readonly #nextRests = new Map<string, number | null>();
  readonly #rooms = new Map<string, readonly RoomRow[]>();
  readonly #liveSessions = new Map<string, number>();
  /** By machine. */
  readonly #held = new Map<string, readonly HeldPorts[]>();
  readonly #recounts = new Map<string, readonly HeldPorts[]>();
  /** Machines on which counting begins with this batch. */
  #countingOn: string | undefined;
  /** By holder: places of shared blocks that the store says it is not a member of. */
  readonly #outside = new Map<string, Set<string>>();

  constructor(end: LogEnd, now: number) {
    this.#end = end;
    this.#standing = { epoch: end.epoch, confirmedAt: end.confirmedAt, base: end.revision };
    this.#now = now;
  }

  get epoch(): number {
    return this.#standing.epoch;
  }

  /** Since when it is certain that nothing that was answered is missing; null while that is in doubt. */
  get confirmedAt(): number | null {
    return this.#standing.confirmedAt;
  }

  get database(): string | undefined {
    return this.#end.database;
  }

  get loss(): Loss | undefined {
    return this.#end.loss;
  }

  /** Whether something that was answered may be missing. */
  get isInDoubt(): boolean {
    return this.confirmedAt === null;
  }

  /** Whether that was so, or found out by the store, before the batch: what its needs go by. */
  get beganInDoubt(): boolean {
    return this.#end.confirmedAt === null || this.loss !== undefined;
  }

  /** The instant of the transaction, on the clock that the store goes by. */
  get now(): number {
    return this.#now;
  }

  get revision(): number {
    return this.#events.at(-1)?.revision ?? this.#end.revision;
  }

  /** Appends to the log. `make` gets the revision and the time of the event it makes; log time only ever rises. */
  log<C extends Content>(machine: string | null, make: (revision: number, at: number) => C): C {
    const revision = Math.max(this.revision, this.#standing.base) + 1;
    const at = Math.max(this.#now, (this.#events.at(-1)?.at ?? this.#end.lastEventAt) + 1);
    const content = make(revision, at);
    this.#events.push({ revision, at, machine, ...content });
    this.#journal.record({ undo: () => this.#events.pop() });
    return content;
  }

  /** From here on the epoch is this one, and revisions are above `base`. */
  enterEpoch({ number, confirmedAt }: Pick<Epoch, 'number' | 'confirmedAt'>, base: number): void {
    const before = this.#standing;
    this.#standing = { epoch: number, confirmedAt, base };
    this.#journal.record({ undo: () => (this.#standing = before) });
  }

  /** What this batch appended to the log so far, without a gap from where it began, but for where an epoch begins. */
  get events(): readonly Event[] {
    return this.#events;
  }

  loadAuditEnd(end: AuditEnd): void {
    this.#auditEnd = end;
  }

  /** Appends to the audit log, whose time does not go back either. */
  putAudit(entry: Omit<AuditEntry, 'id'>): void {
    const end = known(this.#auditEnd, 'the end of the audit log');
    this.#auditEnd = { id: end.id + 1, at: Math.max(end.at, entry.at) };
    this.#audit.push({ ...entry, ...this.#auditEnd });
    this.#journal.record({
      undo: () => {
        this.#audit.pop();
        this.#auditEnd = end;
      },
    });
  }

  /** A point to come back to when what follows fails. */
  mark(): number {
    return this.#journal.length;
  }

  rewindTo(mark: number): void {
    this.#journal.rewindTo(mark);
  }

  changes(): Changes {
    return {
      pools: this.pools.changes(),
      machines: this.machines.changes(),
      holders: this.holders.changes(),
      slices: this.slices.changes(),
      tenures: this.tenures.changes(),
      sessions: this.sessions.changes(),
      leases: this.leases.changes(),
      extents: this.extents.changes(),
      blocks: this.blocks.changes(),
      accessTokens: this.accessTokens.changes(),
      revocations: this.revocations.changes(),
      routers: this.routers.changes(),
      keptAnswers: this.keptAnswers.changes(),
      held: this.#heldMoved(),
      audit: this.#audit,
      epochs: this.epochs.changes(),
      brokers: this.brokers.changes(),
      reportedSessions: this.reportedSessions.changes(),
      reportedLeases: this.reportedLeases.changes(),
      events: this.#events,
    };
  }

  /** Notes that a need is about to be answered; false when it was before. */
  ask(need: Need): boolean {
    switch (need.need) {
      case 'pool':
        return this.pools.ask(need.id);
      case 'machine':
        return this.machines.ask(need.id);
      case 'holder':
        return this.holders.ask(holderKey(need.machine, need.name));
      case 'slice':
        return this.slices.ask(need.id);
      case 'tenure':
        return this.tenures.ask(tenureKey(need.slice, need.generation));
      case 'session':
        return this.sessions.ask(need.id);
      case 'lease':
        return this.leases.ask(need.id);
      case 'block':
        return this.blocks.ask(placeKey(need.slice, need.protocol, need.first));
      case 'accessToken':
        return this.accessTokens.ask(need.id);
      case 'endingRevocations': {
        const isNew = !this.#asksForRevocations;
        this.#asksForRevocations = true;
        return isNew;
      }
      case 'router':
        return this.routers.ask(need.id);
      case 'keptAnswer':
        return this.keptAnswers.ask(answerKey(need.token, need.key));
      case 'epoch':
        return this.epochs.ask(need.number);
      case 'broker':
        return this.brokers.ask(need.machine);
      case 'reportedSession':
        return this.reportedSessions.ask(reportedKey(need));
      case 'reportedLease':
        return this.reportedLeases.ask(reportedKey(need));
      default: {
        const text = JSON.stringify(need);
        const isNew = !this.#asked.has(text);
        this.#asked.add(text);
        return isNew;
      }
    }
  }

  loadOffers(machine: string, offers: readonly Offer[]): void {
    this.#offers.set(machine, offers);
  }

  loadOwnOffers(machine: string, offers: readonly Offer[]): void {
    this.#ownOffers.set(machine, offers);
  }

  loadWaitingPools(pools: readonly string[]): void {
    this.#waitingPools = pools;
  }

  loadOccupants(slice: number, count: number): void {
    this.#occupants.set(slice, count);
  }

  loadReportedOccupants(slice: number, generation: number, count: number): void {
    this.#reportedOccupants.set(tenureKey(slice, generation), count);
  }

  loadMachinesThere(which: 'unheard' | 'behind', isAny: boolean): void {
    this.#machinesThere.set(which, isAny);
  }

  /** Whether there is any machine of those that the need of this name is about. Undefined when nobody asked. */
  isAnyMachine(which: 'unheard' | 'behind'): boolean | undefined {
    return this.#machinesThere.get(which);
  }

  loadNextRest(machine: string, protocol: Protocol, at: number | null): void {
    this.#nextRests.set(`${machine}/${protocol}`, at);
  }

  loadHeld(machine: string, rows: readonly HeldPorts[]): void {
    this.#held.set(machine, rows);
  }

  loadRecount(machine: string, rows: readonly HeldPorts[]): void {
    this.#recounts.set(machine, rows);
  }

  loadLiveSessions(machine: string, holder: string, count: number): void {
    this.#liveSessions.set(holderKey(machine, holder), count);
  }

  loadRoom(machine: string, protocol: Protocol, rows: readonly RoomRow[]): void {
    this.#rooms.set(`${machine}/${protocol}`, rows);
  }

  /** One answer to `joinableBlocks`: a block that the holder is not a member of. */
  loadJoinable(holder: string, block: SharedBlock): void {
    this.blocks.load(block);
    const places = this.#outside.get(holder) ?? new Set();
    this.#outside.set(holder, places.add(placeOf(block)));
  }

  /** What the machine has to grant from. */
  offersOf(machine: string): readonly Offer[] {
    return known(this.#offers.get(machine), `the offers of ${machine}`);
  }

  /** What the machine has to grant from itself; nothing where nobody had to ask, see `Machine.ownSlices`. */
  ownOffersOf(machine: string): readonly Offer[] {
    return this.#ownOffers.get(machine) ?? [];
  }

  loadOwned(machine: string, owned: readonly Owned[]): void {
    this.#owned.set(machine, owned);
  }

  /** How many slices of the pool the machine has that are assigned, or are being assigned, and are what it wants. */
  ownedIn(machine: string, pool: string, { family, allocator }: Pick<Want, 'family' | 'allocator'>): number {
    const isWanted = (one: Omit<Owned, 'slices'>): boolean =>
      one.pool === pool && one.allocator === allocator && (family === null || one.family === family);
    const isCounted = (slice: Slice | undefined): boolean =>
      (slice?.state === 'assigning' || slice?.state === 'assigned') &&
      slice.machine === machine &&
      isWanted({ ...slice, family: familyOf(slice.address) });
    let count = 0;
    for (const owned of known(this.#owned.get(machine), `the slices that ${machine} has`))
      if (isWanted(owned)) count += owned.slices;
    for (const { before, after } of this.slices.changes())
      count += Number(isCounted(after)) - Number(isCounted(before));
    return count;
  }

  /** The pools with slices that wait for routers. */
  get waitingPools(): readonly string[] {
    return known(this.#waitingPools, 'the pools that wait for routers');
  }

  /** How many leases of the slice are pending, active or ending. */
  occupantsOf(slice: number): number {
    let count = known(this.#occupants.get(slice), `the occupants of slice ${slice}`);
    for (const { before, after } of this.leases.changes()) {
      if (before?.slice === slice && hasOccupants(before)) count--;
      if (after?.slice === slice && hasOccupants(after)) count++;
    }
    return count;
  }

  /** How many leases that the slice's machine reported in this generation of it were not told to be empty. */
  reportedOccupantsOf({ id: slice, generation }: Pick<Slice, 'id' | 'generation'>): number {
    const isHere = (lease: ReportedLease | undefined) =>
      lease?.slice === slice && lease.generation === generation && isOccupied(lease);
    let count = known(
      this.#reportedOccupants.get(tenureKey(slice, generation)),
      `the reported occupants of slice ${slice}`,
    );
    for (const { before, after } of this.reportedLeases.changes())
      count += Number(isHere(after)) - Number(isHere(before));
    return count;
  }

  /**
   * Revocations in effect whose leases have not all followed. About a lease that was granted in this batch the store knows
   * of none: what it has was there before.
   */
  revocationsInEffect(lease?: number): readonly Revocation[] {
    const isNew = lease !== undefined && this.leases.isNew(lease);
    if (!isNew && !this.#asksForRevocations) throw new Error('the revocations in effect were read but never asked for');
    const found: Revocation[] = [];
    for (const revocation of this.revocations.values()) if (revocation.state === 'ending') found.push(revocation);
    return found;
  }

  nextRestOf(machine: string, protocol: Protocol): number | null {
    return known(this.#nextRests.get(`${machine}/${protocol}`), `the next rest of ${machine}/${protocol}`);
  }

  /** How many ports of each protocol the holder has now; 0 where it has no limits and nobody looked. */
  heldBy(machine: string, holder: string): Readonly<Record<Protocol, number>> {
    const held = { tcp: 0, udp: 0, icmp: 0 };
    for (const row of known(this.#held.get(machine), `what holders of ${machine} have`))
      if (row.holder === holder) held[row.protocol] += row.ports;
    for (const row of heldMoved(this.leases.changes(), (lease) => lease.machine === machine && lease.holder === holder))
      held[row.protocol] += row.ports;
    return held;
  }

  /** From this batch on what holders of the machine have is counted. Nothing else may happen in it. */
  beginCounting(machine: string): void {
    known(this.#recounts.get(machine), `what holders of ${machine} have`);
    const before = this.#countingOn;
    this.#countingOn = machine;
    this.#journal.record({ undo: () => (this.#countingOn = before) });
  }

  /** How many sessions of the holder are live; what was overdue when the batch began is not. */
  liveSessionsOf(machine: string, holder: string, time: Readonly<{ now: number; startedAt: number }>): number {
    let count = known(this.#liveSessions.get(holderKey(machine, holder)), `the live sessions of ${machine}/${holder}`);
    const isLive = (session: Session | undefined) =>
      session?.machine === machine &&
      session.holder === holder &&
      session.state === 'live' &&
      !hasLapsed(session, time);
    for (const { before, after } of this.sessions.changes()) count += Number(isLive(after)) - Number(isLive(before));
    return count;
  }

  #heldMoved(): readonly HeldPorts[] {
    if (this.#countingOn !== undefined) return this.#recounts.get(this.#countingOn) ?? [];
    const counted = new Set<string>();
    for (const { id, limitedHolders } of this.machines.values()) if (limitedHolders > 0) counted.add(id);
    return counted.size === 0 ? [] : heldMoved(this.leases.changes(), ({ machine }) => counted.has(machine));
  }

  /** As it was before this batch. */
  roomOf(machine: string, protocol: Protocol): readonly RoomRow[] {
    return known(this.#rooms.get(`${machine}/${protocol}`), `the room of ${machine}/${protocol}`);
  }

  /** The holder on the machine that has this user id. */
  holderByUid(machine: string, uid: number): Holder | undefined {
    for (const holder of this.holders.values()) if (holder.machine === machine && holder.uid === uid) return holder;
    if (!this.#hasAsked({ need: 'holderByUid', machine, uid }))
      throw new Error(`the holder with uid ${uid} on ${machine} was never asked for`);
    return undefined;
  }

  /** The holder on the machine whose cgroup this is, or is above or below it; not the one of this name. */
  holderAroundCgroup(machine: string, cgroup: string, name: string): Holder | undefined {
    for (const holder of this.holders.values())
      if (holder.machine === machine && holder.name !== name && cgroupsOverlap(holder.cgroup ?? '', cgroup))
        return holder;
    if (!this.#hasAsked({ need: 'holdersInCgroups', machine }))
      throw new Error(`the holders in cgroups on ${machine} were never asked for`);
    return undefined;
  }

  /** The epoch that clients know by this id. */
  epochById(id: string): Epoch | undefined {
    for (const epoch of this.epochs.values()) if (epoch.id === id) return epoch;
    if (!this.#hasAsked({ need: 'epochById', id })) throw new Error(`the epoch ${id} was never asked for`);
    return undefined;
  }

  /** The slice that has this port of this address, if a machine has it. */
  sliceAt(address: Address, port: number): Slice | undefined {
    for (const slice of this.slices.values()) if (slice.machine !== null && covers(slice, address, port)) return slice;
    if (!this.#hasAsked({ need: 'sliceAt', address, port }))
      throw new Error(`the slice at ${address}:${port} was never asked for`);
    return undefined;
  }

  /** The slice that the pool made with this port of this address, whatever its state. */
  madeAt({ createdAt }: Pick<Pool, 'createdAt'>, address: Address, port: number): Slice | undefined {
    for (const slice of this.slices.values())
      if (slice.poolBornAt === createdAt && covers(slice, address, port)) return slice;
    if (!this.knowsMadeAt({ createdAt }, address, port))
      throw new Error(`the slice made at ${address}:${port} was never asked for`);
    return undefined;
  }

  knowsMadeAt({ createdAt }: Pick<Pool, 'createdAt'>, address: Address, port: number): boolean {
    return this.#hasAsked({ need: 'madeAt', poolBornAt: createdAt, address, port });
  }

  /** Of the loaded extents that the server may grant from, the one to take a block of 2^order ports from. */
  bestExtent(machine: string, protocol: Protocol, { pool, family }: Offer, order: number): Extent | undefined {
    return this.#extentIndex.choose({ machine, protocol, pool, family }, order);
  }

  /** How many blocks of 2^order ports there are in the first `count` loaded extents of a window. */
  roomIn(window: NeedOf<'offeredExtents'>, count: number, order: number): number {
    return this.#extentIndex.roomIn(window, count, order);
  }

  /** Loaded extents of one slice and protocol, in no order. */
  extentsOf(slice: number, protocol: Protocol): Iterable<Extent> {
    return this.#extentIndex.of(slice, protocol);
  }

  /** Of the loaded live leases that overlap these ports the one that begins last; in a shared block, the oldest there. */
  occupantOf(slice: number, protocol: Protocol, ports: PortRange): Lease | undefined {
    let last: Lease | undefined;
    for (const lease of this.leases.values()) {
      const isHere = lease.slice === slice && lease.protocol === protocol && rangesOverlap(lease.ports, ports);
      if (isHere && lease.endedAt === null && (!last || isFurther(lease, last))) last = lease;
    }
    return last;
  }

  /** Offered blocks on the machine that the holder is known not to be a member of. */
  *joinableBlocks(machine: string, holder: string): Generator<SharedBlock> {
    const outside = this.#outside.get(holder);
    const memberships = this.#memberships.get(holder);
    for (const [place, block] of this.blocks.entries()) {
      if (block.machine !== machine || (memberships?.get(place) ?? 0) > 0) continue;
      if (this.blocks.isNew(place) || outside?.has(place)) yield block;
    }
  }

  /** Whether the view knows of a pending, active or ending lease of the holder in the block. */
  isMember(block: SharedBlock, holder: string): boolean {
    return (this.#memberships.get(holder)?.get(placeOf(block)) ?? 0) > 0;
  }

  #hasAsked(need: Need): boolean {
    return this.#asked.has(JSON.stringify(need));
  }

  #countMember(lease: Lease | undefined, step: number): void {
    if (lease?.mode !== 'shared' || !hasOccupants(lease)) return;
    const places = this.#memberships.get(lease.holder) ?? new Map<string, number>();
    this.#memberships.set(lease.holder, places.set(placeOf(lease), (places.get(placeOf(lease)) ?? 0) + step));
  }
}

const covers = (slice: Slice, address: Address, port: number): boolean =>
  slice.address === address && slice.ports.first <= port && port <= slice.ports.last;

const isFurther = (a: Lease, b: Lease): boolean =>
  a.ports.first === b.ports.first ? a.id < b.id : a.ports.first > b.ports.first;

function known<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw new Error(`${what} were read but never asked for`);
  return value;
}
