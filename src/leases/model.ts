import type { Address, Family } from '../net/address.ts';
import type { PortRange } from '../net/ports.ts';
import type { Prefix } from '../net/prefix.ts';
import type { Protocol } from '../net/protocol.ts';

/**
 * What the table of slices and leases consists of, as plain values. Times are microseconds since 1970 (`…At`) or
 * lengths in microseconds (`…Us`). Rows are never changed in place: a decision makes new ones.
 */

export type Labels = Readonly<Record<string, string>>;

export function sameLabels(a: Labels, b: Labels): boolean {
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => a[key] === b[key]);
}

/** Ports of these addresses are never part of a slice. `ports`: null stands for all of them. */
export type CarveOut = Readonly<{ prefix: Prefix; ports: PortRange | null }>;

/**
 * Which routers must know the way to a slice before its machine uses it, and that there is none before it is free. By
 * names, or by a label selector, or (both null) all of them. `policy`: how many of them; a number means at least so many.
 */
export type RouterDemand = Readonly<{
  ids: readonly string[] | null;
  select: string | null;
  policy: 'none' | 'all' | number;
}>;

export type Pool = Readonly<{
  id: string;
  labels: Labels;
  prefixes: readonly Prefix[];
  carveOuts: readonly CarveOut[];
  slicePorts: number;
  usablePorts: PortRange;
  sharedBlockPorts: number;
  cooldownUs: Readonly<Record<Protocol, number>>;
  routers: RouterDemand;
  /** Slot of the next slice that was never made yet, one per prefix: a /48 has no rows of its own. */
  cursors: readonly bigint[];
  createdAt: number;
  updatedAt: number;
  revision: number;
}>;

/** Who grants inside a slice. */
export type Allocator = 'server' | 'machine';

/** So many slices of a pool, or of pools with such labels (one of `pool` and `select` is null), that this one grants in. */
export type Want = Readonly<{
  pool: string | null;
  select: string | null;
  family: Family | null;
  allocator: Allocator;
  slices: number;
}>;

export type MachineState = 'active' | 'cordoned' | 'draining' | 'fenced' | 'lost';
export type Machine = Readonly<{
  id: string;
  labels: Labels;
  enforcement: 'agent' | 'none';
  state: MachineState;
  /** What an operator said last that it is to be: what it is again when its agent is back from being fenced. */
  intent: Exclude<MachineState, 'fenced'>;
  /** Draining: when the leases of its slices are ended. */
  drainBy: number | null;
  /** Not draining and not lost, or each of its slices has followed. */
  settled: boolean;
  /** Which slices it is to have, at least. */
  wants: readonly Want[];
  /** When its wants are looked at next, and how many slices they (by their places) were short of the last time. */
  wanting: Readonly<{ lookAt: number | null; missing: readonly number[] }>;
  fenceUs: number;
  /** How routers send packets to it: a packet mark, and next hops, one per family at most. Nothing here goes by them. */
  mark: number | null;
  nextHops: readonly Address[];
  /** How many of its holders have limits. Where none has, nobody counts what holders have. */
  limitedHolders: number;
  /** How many slices it has that it grants in itself, in whichever state. Where it has none, no grant looks for any. */
  ownSlices: number;
  agent: Readonly<{
    bootId: string;
    version: string;
    seenAt: number;
    appliedRevision: number;
    /** Something was reclaimed at this revision: no keepalive is answered before the agent has made it true. */
    mustApply: number;
  }> | null;
  createdAt: number;
  updatedAt: number;
  revision: number;
}>;

/** What a holder may have at most, and what is kept for it. */
export type HolderLimits = Readonly<{
  /** So many ports are kept for it from other holders of its machine, but not from what is kept for these; 0: none. */
  portsMin: Readonly<Record<Protocol, number>>;
  /** Null: as many as there are. */
  portsMax: Readonly<Record<Protocol, number | null>>;
  sessionsMax: number | null;
}>;

/** The packet path, the terminating path, or a program that has nothing to do with Fishery but the ports. */
export const holderKinds = ['fish', 'terminator', 'proxy'] as const;
export type HolderKind = (typeof holderKinds)[number];

/** Whether the agent of its machine runs it: it claims its leases, and its flow log says who was behind each of its flows. */
export const isRunByAgent = (kind: HolderKind): boolean => kind !== 'proxy';

export type Holder = Readonly<{
  machine: string;
  name: string;
  kind: HolderKind;
  uid: number | null;
  /** Path of a control group below the cgroup2 mount; never beside a user id. */
  cgroup: string | null;
  limits: HolderLimits | null;
  /** Where its last sticky claims were granted from, by family. */
  sticky: Readonly<{ v4: Address | null; v6: Address | null }>;
  createdAt: number;
  updatedAt: number;
  revision: number;
}>;

/**
 * Where the way back to a slice's machine stands. `adding`: the routers that its pool names do not know it yet, so the
 * machine is not told of the slice. `removing`: it was withdrawn, and not all of them have let go of it.
 */
export type RouteState = 'none' | 'adding' | 'routed' | 'removing';

export type SliceState = 'assigning' | 'assigned' | 'draining' | 'cooling' | 'free';
export type Slice = Readonly<{
  id: number;
  pool: string;
  /** When the pool was created: one that was deleted and made again under the same name is another. */
  poolBornAt: number;
  address: Address;
  ports: PortRange;
  machine: string | null;
  state: SliceState;
  /** Rises each time the slice changes hands; a message that carries an older one is refused. */
  generation: number;
  allocator: Allocator;
  /** Since when it drains; null in every other state. */
  drainingSince: number | null;
  /** Draining: when its leases are ended, if they have not by themselves. */
  drainBy: number | null;
  /** Draining or cooling: who has it after its rest, instead of the pool. */
  next: Readonly<{ machine: string; allocator: Allocator }> | null;
  /** Draining or cooling: its machine provably cannot send any more, so that nobody needs to prove it empty. */
  reclaimed: boolean;
  assignedAt: number | null;
  reusableAt: number | null;
  route: RouteState;
  /** The revision at which the way came or went: routers that applied it know. */
  routeRevision: number;
  /** Since when it stands like this. */
  routeSince: number;
  revision: number;
}>;

/** What steers packets that come back to the machines; it follows the slices, and says how far it has got. */
export type Router = Readonly<{
  id: string;
  labels: Labels;
  /** Everything that the log says about routes is true there, up to this revision. */
  appliedRevision: number;
  /** When it last said so. */
  seenAt: number | null;
  createdAt: number;
  updatedAt: number;
  revision: number;
}>;

/**
 * Who owned a slice when: what attribution asks. `until` is null while it lasts. It says itself where the slice is, so
 * that it stays true when there is no such slice any more.
 */
export type Tenure = Readonly<{
  slice: number;
  generation: number;
  machine: string;
  address: Address;
  ports: PortRange;
  /** Who granted in it, all the time. */
  allocator: Allocator;
  from: number;
  until: number | null;
}>;

export type SessionEnding = 'released' | 'expired' | 'revoked' | 'fenced';
export type Session = Readonly<{
  id: number;
  machine: string;
  holder: string;
  state: 'live' | 'ended';
  ending: SessionEnding | null;
  /** Ended, and every one of its leases has followed into `ending`. Until then the leases' state is read through it. */
  settled: boolean;
  ttlUs: number;
  expiresAt: number;
  openedAt: number;
  endedAt: number | null;
  revision: number;
}>;

/** Which leases are meant; each that is not null narrows it. */
export type RevocationScope = Readonly<{
  machine: string | null;
  holder: string | null;
  pools: readonly string[] | null;
  prefix: Prefix | null;
  session: number | null;
  slice: number | null;
  /** That one alone; its `slice` is named too. */
  lease: number | null;
}>;

/** Ends every lease that it covers and that was granted before it, at `revokeAt`: until then they are what they were. */
export type Revocation = RevocationScope &
  Readonly<{
    id: number;
    ending: 'revoked' | 'moved' | 'fenced';
    reason: string;
    /** Connections are cut, also those of leases that are ending already. */
    forced: boolean;
    /** `ending`: it is in effect, and the leases' rows follow. `done`: all have. */
    state: 'waiting' | 'ending' | 'done';
    createdAt: number;
    revokeAt: number;
    /** When it came into effect. */
    endedAt: number | null;
    doneAt: number | null;
    /** How many leases it has ended so far. */
    leases: number;
    /** The place up to which leases have followed: in order of slice, protocol, first port, id. */
    through: Readonly<{ slice: number; protocol: Protocol; first: number; lease: number }> | null;
    revision: number;
  }>;

export type LeaseState = 'pending' | 'active' | 'refused' | 'ending' | 'cooling' | 'ended';
export type LeaseEnding = 'released' | 'expired' | 'revoked' | 'fenced' | 'moved';
export type Mode = 'exclusive' | 'shared';
export type Binding = 'late' | 'explicit';

/** A lease is its own extent: no second row says that its ports are taken. Ended ones stay, for attribution. */
export type Lease = Readonly<{
  /** The revision at which it was granted: unique, in order, and the sequence of its token. */
  id: number;
  slice: number;
  generation: number;
  epoch: number;
  /** Null: a reservation, which nobody has to keep alive. */
  session: number | null;
  /** The unit of the machine's service manager that a reservation is for, and ends with. */
  unit: string | null;
  machine: string;
  holder: string;
  pool: string;
  address: Address;
  protocol: Protocol;
  ports: PortRange;
  mode: Mode;
  binding: Binding | null;
  state: LeaseState;
  ending: LeaseEnding | null;
  refusal: Readonly<{ errno: string; detail: string }> | null;
  /** What an operator wrote when revoking it. */
  reason: string | null;
  /** What it ends by does not wait for its holder: its connections are cut. */
  forced: boolean;
  grantedAt: number;
  activeAt: number | null;
  endingAt: number | null;
  /** When its users were proven gone: through then, attribution names this holder. */
  emptyAt: number | null;
  reusableAt: number | null;
  /** Null as long as the lease keeps its ports from others: pending, active, ending and cooling ones do. */
  endedAt: number | null;
  revision: number;
}>;

/**
 * A piece of a slice that nobody leases: free, blocked by a stranger, or cooling after a stranger left. With the live
 * leases (shared ones by their block) these tile the slice.
 */
export type Extent = Readonly<{
  slice: number;
  protocol: Protocol;
  ports: PortRange;
  machine: string;
  pool: string;
  family: Family;
  state: 'free' | 'blocked' | 'cooling';
  /** Who grants in its slice, for as long as the machine has it. */
  allocator: Allocator;
  /** The server may grant from it: it is free, and its slice is assigned and allocated by the server. */
  offered: boolean;
  /** Exponent of the largest aligned block inside: the indexed search key of a grant. */
  fit: number;
  /** Since when nobody used it; the longest rested is granted first. */
  restedSince: number;
  /** When a cooling one becomes free. */
  reusableAt: number | null;
  blocked: Readonly<{ since: number; reason: string }> | null;
}>;

/** An aligned block that shared leases are members of; it is there as long as one of them is not proven empty. */
export type SharedBlock = Readonly<{
  slice: number;
  protocol: Protocol;
  ports: PortRange;
  machine: string;
  pool: string;
  family: Family;
  binding: Binding;
  /** How many leases are pending, active or ending in it. */
  members: number;
  /** The server may let others join: its slice is assigned and allocated by the server, and no stranger is in the way. */
  offered: boolean;
  /** A stranger kept a member out. Those who are in it stay. */
  blocked: Readonly<{ since: number; reason: string }> | null;
}>;

/** One entry of the ordered log: the whole new state of one thing. `machine` says whose watchers care; null: everybody. */
export type Event = Readonly<{ revision: number; at: number; machine: string | null }> &
  (
    | Readonly<{ kind: 'pool'; pool: Pool }>
    | Readonly<{ kind: 'machine'; subject: Machine }>
    | Readonly<{ kind: 'holder'; holder: Holder }>
    | Readonly<{ kind: 'slice'; slice: Slice }>
    | Readonly<{ kind: 'session'; session: Session }>
    | Readonly<{ kind: 'lease'; lease: Lease }>
    | Readonly<{ kind: 'revocation'; revocation: Revocation }>
    | Readonly<{ kind: 'router'; router: Router }>
    /** It was deleted; its name may come back for another. A holder was one of `machine`. */
    | Readonly<{ kind: 'deleted'; what: 'pool' | 'machine' | 'router' | 'holder'; id: string }>
    | Readonly<{ kind: 'token'; token: TokenFacts }>
    | Readonly<{ kind: 'epoch'; epoch: Epoch }>
  );

/** What routes depend on, see `Interest`. No machine can have such a name. */
export const steering = '/steering';
/** What no machine is by itself concerned by, which every server has to hear of. No machine can have such a name. */
export const common = '/common';
/** What a follower of the log wants to see: all of it (null), what concerns the machine of this name, `steering` or `common`. */
export type Interest = string | null;

export function concerns(event: Event, interest: Interest): boolean {
  if (interest === null) return true;
  if (interest === steering) return isSteering(event);
  if (interest === common) return event.machine === null || isHidden(event);
  return !isHidden(event) && (event.machine === null || event.machine === interest);
}

/** Whether routes, or the choice of them, may depend on it. */
export const isSteering = ({ kind }: Event): boolean =>
  kind === 'slice' || kind === 'pool' || kind === 'machine' || kind === 'epoch';

/** What no machine is told: what is not its business, and a slice as long as the routers do not know the way to it. */
export const isHidden = (event: Event): boolean =>
  event.kind === 'token' ||
  event.kind === 'router' ||
  (event.kind === 'deleted' && event.what === 'router') ||
  (event.kind === 'slice' && event.slice.route === 'adding');

/** Whose watchers hear of the slice. */
export const audienceOf = (slice: Pick<Slice, 'machine' | 'route'>): string | null =>
  slice.route === 'adding' ? null : slice.machine;

/** What made an epoch begin. All but `first`: the table may lack what was answered before. */
export type EpochCause =
  | 'first'
  /** The database is older than the high-water mark beside it: it was restored. */
  | 'older_than_mark'
  /** The high-water mark is of another database, damaged or missing: this one was copied, or put in the place of another. */
  | 'other_mark'
  /** Another system or timeline of the database wrote last: a failover, or a restored backup. */
  | 'other_database'
  /** The log ended below what this server itself had committed. */
  | 'log_went_back'
  /** A client had seen a higher revision. */
  | 'client_saw_more'
  /** A client knows an epoch that this table has never been in. */
  | 'client_knows_other';

/**
 * A stretch of the log in which nothing that was answered is missing. Where something may be missing another one begins,
 * far above every revision that can have been given out: so no identifier ever means two things, and a revision alone
 * tells whether it was lost.
 */
export type Epoch = Readonly<{
  /** What tokens of leases carry. */
  number: number;
  /** Random; what clients present. */
  id: string;
  cause: EpochCause;
  detail: string;
  /** The log ended here when the epoch began: revisions above, up to its own first, are lost. */
  after: number;
  /** Its first revision. */
  from: number;
  beganAt: number;
  /** Null as long as it is in doubt: nothing is granted, ended or freed until it is certain that no port is given twice. */
  confirmedAt: number | null;
  /** `machines`, when every one of them has told what it has, or who took the responsibility. */
  confirmedBy: string | null;
  revision: number;
}>;

/** Whether a revision was given out by a server whose table is not this one. */
export const isLostTo = (epoch: Pick<Epoch, 'after' | 'from'>, revision: number): boolean =>
  epoch.after < revision && revision < epoch.from;

export type Role = 'operator' | 'viewer' | 'agent' | 'holder' | 'router';
export type AccessToken = Readonly<{
  id: number;
  name: string;
  role: Role;
  machine: string | null;
  holder: string | null;
  router: string | null;
  /** SHA-256 of the secret; the secret itself is shown once and never stored. */
  hash: string;
  /** Of the secret before the last rotation, which is accepted until `formerUntil`; both null where there is none. */
  formerHash: string | null;
  formerUntil: number | null;
  quota: TokenQuota;
  createdAt: number;
  rotatedAt: number | null;
  expiresAt: number | null;
  revokedAt: number | null;
  /** Written now and then, not with each use: see `noteTokenUses`. Null: never used. */
  lastUsedAt: number | null;
}>;
/** What the log and the API tell of a token: everything but what a secret could be compared with. */
export type TokenFacts = Omit<AccessToken, 'hash' | 'formerHash'>;

/** How much one token may ask for; null where the server's own setting says it. */
export type TokenQuota = Readonly<{
  /** In the long run; `requestsBurst` of them may come at once. */
  requestsPerS: number | null;
  requestsBurst: number | null;
  /** Event streams at once. */
  watchersMax: number | null;
}>;

/** What was answered to a request, kept with what it did in case the request comes again. */
export type KeptAnswer = Readonly<{
  /** Of the access token whose request it was. */
  token: number;
  /** What the client called its request. */
  key: string;
  fingerprint: string;
  /** What the use case needs to give its answer again, see `replays.ts`. */
  answer: string;
  at: number;
}>;

/** What an operator knows by name, with how it was before and after. Of a token, what may be told. */
export type AuditChange = {
  [K in keyof Audited]: Readonly<{ kind: K; before: Audited[K] | null; after: Audited[K] | null }>;
}[keyof Audited];
type Audited = {
  pool: Pool;
  machine: Machine;
  holder: Holder;
  router: Router;
  slice: Slice;
  session: Session;
  lease: Lease;
  revocation: Revocation;
  token: TokenFacts;
  epoch: Epoch;
};

export type AuditOutcome = 'done' | 'replayed' | 'refused' | 'denied';
/** Who did what, when, and what came of it. Never changed, and kept for as long as is set. */
export type AuditEntry = Readonly<{
  /** Counts up from 1, as `at` goes on. */
  id: number;
  at: number;
  /** Whose word it was; nulls where nobody known was behind the request. */
  token: number | null;
  tokenName: string | null;
  role: Role | null;
  requestId: string;
  remoteAddress: string | null;
  /** The operation of the API. */
  operation: string;
  /** What it was about, as paths name it: `pools/eu`; the collection alone where something was to be made, and was not. */
  target: string;
  outcome: AuditOutcome;
  /** Why it was refused or denied. */
  code: string | null;
  /** How far the log was with what it changed; null when it changed nothing. */
  revision: number | null;
  /** From here to `revision` all of the log came of it; null when nothing did. */
  firstRevision: number | null;
  /** The first of what it changed, and how many more there were. */
  changes: readonly AuditChange[];
  changesOmitted: number;
}>;

/** Text form of a lease's token: generation, allocator epoch, sequence. */
export const formatToken = (lease: Pick<Lease, 'generation' | 'epoch' | 'id'>): string =>
  `${lease.generation}.${lease.epoch}.${lease.id}`;

/** Somebody may be on the ports of this lease: it waits for its agent, is used, or is not proven empty yet. */
export const hasOccupants = (lease: Pick<Lease, 'state'>): boolean =>
  lease.state === 'pending' || lease.state === 'active' || lease.state === 'ending';

// Keys of the rows that have no number of their own. Names contain no slash.
export const holderKey = (machine: string, name: string): string => `${machine}/${name}`;
export const answerKey = (token: number, key: string): string => `${token}/${key}`;
export const tenureKey = (slice: number, generation: number): string => `${slice}/${generation}`;
export const placeKey = (slice: number, protocol: Protocol, first: number): string => `${slice}/${protocol}/${first}`;
/** The key of an extent or a shared block, and of the block that a lease is in. */
export const placeOf = (row: Readonly<{ slice: number; protocol: Protocol; ports: PortRange }>): string =>
  placeKey(row.slice, row.protocol, row.ports.first);
