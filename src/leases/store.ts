import type { Address, Family } from '../net/address.ts';
import type { PortRange } from '../net/ports.ts';
import type { Protocol } from '../net/protocol.ts';
import type { Selector } from '../net/selector.ts';
import type {
  AccessToken,
  AuditEntry,
  Epoch,
  Event,
  Extent,
  Holder,
  Lease,
  LeaseState,
  Machine,
  Interest,
  Pool,
  Revocation,
  Role,
  Router,
  Session,
  SharedBlock,
  Slice,
  Tenure,
} from './model.ts';
import type { Needs } from './needs.ts';
import type { Broker, ReportedLease, ReportedSession } from './reported.ts';
import type { View } from './view.ts';

/**
 * All that the lease core asks of a database. Declared here because it is used here.
 * `transact` is the whole of group commit: one batch, one view, one transaction, one fsync.
 */
export interface Store {
  /**
   * Makes a view, loads into it what `needs` asks for round by round, lets `decide` (pure, synchronous) work on it, and
   * writes what changed in one transaction; resolves only when that is durable. Rejects with a `StoreError`, and has
   * changed nothing then. Nothing that the view holds can change under it before that. Where the database had to undo a
   * transaction of its own accord, it is done again from the start, with a new view.
   */
  transact<T>(work: Work<T>): Promise<T>;
  /**
   * Calls back when others may have committed to the same database, and now and then also when nobody has. Where there can
   * be no others it never does. Returns the way out.
   */
  onForeignCommit(wake: () => void): () => void;
  /** Drops the oldest events of the log, at most `rowsMax` of them, and never one of the newest `keep`. */
  compact(step: Readonly<{ keep: number; rowsMax: number }>): Promise<Readonly<{ dropped: number; more: boolean }>>;
  /**
   * Removes leases, sessions, revocations and tenures that have been over for `keptUs`, the longest over first, at most `rowsMax` of
   * them; from then on `Reader.historySince` says what is whole. `now` is the server's clock, as for `transact`.
   */
  prune(
    step: Readonly<{ now: number; keptUs: number; rowsMax: number }>,
  ): Promise<Readonly<{ removed: number; more: boolean }>>;
  /**
   * Drops answers that were kept for requests to come again, or entries of the audit log (but for the newest), that are
   * from before an instant: the oldest, at most `rowsMax`.
   */
  forget(
    step: Readonly<{ what: 'answers' | 'audit'; before: number; rowsMax: number }>,
  ): Promise<Readonly<{ dropped: number; more: boolean }>>;
  readonly reader: Reader;
  /** Absent where there can be no others on the same database. */
  readonly relay?: Relay;
  close(): Promise<void>;
}

/**
 * How servers that share a database reach one another, beside what they commit: a text is told to all of them, the teller
 * included, once or not at all. Nothing of it is kept.
 */
export type Relay = Readonly<{
  tell: (text: string) => Promise<void>;
  /** Returns the way out. */
  onTold: (listener: (text: string) => void) => () => void;
}>;

/**
 * One transaction's worth of deciding. `now` is the server's clock in microseconds. A store whose database is written by
 * several servers goes by the database's clock instead; which instant it is, `view.now` says.
 */
export type Work<T> = Readonly<{ now: number; needs: (view: View) => Needs; decide: (view: View) => T }>;

export type StoreFailure =
  /** A row that the database refused: the engine decided something impossible. A bug, wherever it is. */
  | 'constraint'
  | 'full'
  | 'read_only'
  /** Another process has the database locked. */
  | 'busy'
  | 'corrupt'
  | 'io'
  /** The one failure that may have changed everything that was asked for: whether it did, nobody can say. */
  | 'unknown'
  | 'closed'
  /** More commands wait than may. */
  | 'overloaded';

/** The store could not do it, and nothing was changed; but for `unknown`. */
export class StoreError extends Error {
  override readonly name = 'StoreError';
  readonly failure: StoreFailure;

  constructor(failure: StoreFailure, message: string, cause?: unknown) {
    super(message, { cause });
    this.failure = failure;
  }
}

/** `cursor` is `next` of the page before: the key (name, or number as text) after which this one begins. */
export type PageRequest = Readonly<{ limit: number; cursor: string | null }>;
/** A page may be short, even empty, and go on: `next` alone says whether that was all. */
export type PageOf<T> = Readonly<{ items: readonly T[]; next: string | null }>;

/**
 * What the labels must be of the pool and of the machine that something belongs to, as they are now. What belongs to none
 * any more is as if that had no labels.
 */
export type LabelFilter = Readonly<{ poolLabels?: Selector; machineLabels?: Selector }>;
export type PoolFilter = Readonly<{ labels?: Selector; address?: Address }>;
export type MachineFilter = Readonly<{
  labels?: Selector;
  state?: Machine['state'];
  enforcement?: Machine['enforcement'];
}>;
export type RouterFilter = Readonly<{ labels?: Selector }>;
export type HolderFilter = Readonly<{ kind?: Holder['kind'] }>;

type LeaseFields = Readonly<{
  machine?: string;
  holder?: string;
  /** Null: only reservations. */
  session?: number | null;
  slice?: number;
  pool?: string;
  protocol?: Protocol;
  mode?: Lease['mode'];
  state?: LeaseState;
}>;
export type LeaseFilter = LeaseFields & LabelFilter;
export type ReportedLeaseFilter = Omit<LeaseFields, 'machine'>;
export type ReportedSessionFilter = Readonly<{ holder?: string; state?: Session['state'] }>;
type SliceFields = Readonly<{
  machine?: string;
  pool?: string;
  state?: Slice['state'];
  address?: Address;
  route?: Slice['route'];
  allocator?: Slice['allocator'];
}>;
export type SliceFilter = SliceFields & LabelFilter;
export type EndingLeases = Readonly<{ machine: string; leases: number; since: number }>;
export type DrainingSlices = Readonly<{ pool: string; machine: string; slices: number; since: number }>;
export type WaitingSlices = Readonly<{ pool: string; route: 'adding' | 'removing'; slices: number }>;
export type RevocationFilter = Readonly<{ state?: Revocation['state'] }>;
export type SessionFilter = Readonly<{ machine?: string; holder?: string; state?: Session['state'] }> &
  Pick<LabelFilter, 'machineLabels'>;

/** `since` and `until`: microseconds, from the one and before the other. */
export type AuditFilter = Partial<Pick<AuditEntry, 'token' | 'role' | 'operation' | 'requestId' | 'outcome'>> &
  Readonly<{
    /** What it was about, or came to be by it. */
    target?: string;
    since?: number;
    until?: number;
  }>;

export type TokenFilter = Readonly<{ role?: Role; machine?: string; holder?: string; router?: string }>;

/** One port of an address at one instant (microseconds). */
export type PortInstant = Readonly<{ address: Address; protocol: Protocol; port: number; at: number }>;

/** `byMachine`: its broker granted it and said so; it has a number of that broker's. */
export type PastLease = Lease & Readonly<{ byMachine?: true }>;

/**
 * What the table tells of a port at an instant. All times are half open: a machine has a slice from the instant of its
 * assignment until before the instant at which it is free, a holder a lease from the instant of the grant until before the
 * instant at which its users were proven gone. A refused lease was never had.
 */
export type PastUse = Readonly<{
  tenure: Tenure | null;
  /** The machine of the tenure, and the holders of the leases, as they are today; they may be gone. */
  machine: Machine | null;
  /** Where the machine granted in it: how far it said to whom. */
  broker: Broker | null;
  leases: readonly PastLease[];
  holders: readonly Holder[];
  /** See `Reader.historySince`. */
  historySince: number | null;
}>;

/** Had at any instant from `since` until before `until`. `protocol` null: all of them. */
export type UsesFilter = Readonly<{ since: number; until: number }> &
  (
    | Readonly<{ address: Address; port: number; protocol: Protocol | null }>
    | Readonly<{ machine: string; holder: string }>
  );

/** What is read outside of decisions. Lease states come out as they are in effect: those of an ended session are `ending`. */
export interface Reader {
  /** The one that the table is in. */
  epoch(): Promise<Epoch>;
  /** Every one that there was, the first first: as many as there were restored backups and failovers. */
  epochs(): Promise<readonly Epoch[]>;
  revision(): Promise<number>;
  pool(id: string): Promise<Pool | undefined>;
  pools(filter: PoolFilter, page: PageRequest): Promise<PageOf<Pool>>;
  poolSlices(pool: string): Promise<Readonly<{ assigned: number; cooling: number }>>;
  /**
   * Leases that are `ending`: ports that nobody has proved empty yet. By machine, the first `machinesMax` by name of those
   * that have any. `leasesMax`: so many are counted in all at most, and of each machine no more than its equal share.
   */
  leasesEnding(machinesMax: number, leasesMax: number): Promise<readonly EndingLeases[]>;
  /** How many slices drain, by pool and machine, in this order, and since when the one that has for longest. */
  slicesDraining(): Promise<readonly DrainingSlices[]>;
  /** How many slices wait for routers, by pool and by what they wait for, in no order. */
  slicesWaiting(): Promise<readonly WaitingSlices[]>;
  machine(id: string): Promise<Machine | undefined>;
  machines(filter: MachineFilter, page: PageRequest): Promise<PageOf<Machine>>;
  holder(machine: string, name: string): Promise<Holder | undefined>;
  holders(machine: string, filter: HolderFilter, page: PageRequest): Promise<PageOf<Holder>>;
  slice(id: number): Promise<Slice | undefined>;
  slices(filter: SliceFilter, page: PageRequest): Promise<PageOf<Slice>>;
  /** Free, blocked and cooling pieces, and the live leases (pending to cooling): together they tile the slice. */
  tiling(slice: number): Promise<Tiling>;
  session(id: number): Promise<Session | undefined>;
  sessions(filter: SessionFilter, page: PageRequest): Promise<PageOf<Session>>;
  lease(id: number): Promise<Lease | undefined>;
  leases(filter: LeaseFilter, page: PageRequest): Promise<PageOf<Lease>>;
  revocation(id: number): Promise<Revocation | undefined>;
  revocations(filter: RevocationFilter, page: PageRequest): Promise<PageOf<Revocation>>;
  /** How many leases that it covers, and that machines granted themselves, have users still, by what was reported. */
  reportedLeft(revocation: Revocation): Promise<number>;
  /** One consistent snapshot: everything an agent must make true, at `revision`. */
  desired(machine: string): Promise<DesiredState | undefined>;
  /** Events after `revision` in order, of those that are of interest. */
  eventsAfter(revision: number, interest: Interest, limit: number): Promise<readonly Event[]>;
  /** The oldest revision still in the log; 1 when nothing was compacted. */
  oldestRevision(): Promise<number>;
  /** Who had this port then, from one state of the table. */
  whoHad(question: PortInstant): Promise<PastUse>;
  /** Leases that somebody had within a time, in the order of their grants. */
  uses(of: UsesFilter, page: PageRequest): Promise<PageOf<PastLease>>;
  /**
   * Where machines granted themselves in that time, on the port or anywhere on the machine, so that there were leases which
   * are not known here: the latest first, at most `limit`.
   */
  machineAllocated(of: UsesFilter, limit: number): Promise<readonly Tenure[]>;
  /** What the broker of a machine reported; undefined: nothing. */
  broker(machine: string): Promise<Broker | undefined>;
  /** By machine. */
  brokers(page: PageRequest): Promise<PageOf<Broker>>;
  /** Of what a broker reported under its present epoch, in effect at `now`. */
  reportedLease(machine: string, id: number, now: number): Promise<ReportedLease | undefined>;
  reportedLeases(
    machine: string,
    filter: ReportedLeaseFilter,
    now: number,
    page: PageRequest,
  ): Promise<PageOf<ReportedLease>>;
  reportedSession(machine: string, id: number): Promise<ReportedSession | undefined>;
  reportedSessions(machine: string, filter: ReportedSessionFilter, page: PageRequest): Promise<PageOf<ReportedSession>>;
  /** From here on the history is whole: what was over before has been removed. null: nothing was ever removed. */
  historySince(): Promise<number | null>;
  router(id: string): Promise<Router | undefined>;
  routers(filter: RouterFilter, page: PageRequest): Promise<PageOf<Router>>;
  /** The token that has, or had before its last rotation, the secret with this hash. Whether it is live is not looked at. */
  accessToken(hash: string): Promise<AccessToken | undefined>;
  accessTokenById(id: number): Promise<AccessToken | undefined>;
  accessTokens(filter: TokenFilter, page: PageRequest): Promise<PageOf<AccessToken>>;
  /** The newest first. */
  audit(filter: AuditFilter, page: PageRequest): Promise<PageOf<AuditEntry>>;
  /** Counts for metrics: live leases and ports by state, protocol and mode. */
  usage(): Promise<readonly UsageRow[]>;
  /**
   * For each machine that has an agent (by name, the first `limit`): when the oldest change was that concerns it and that
   * the agent has not said to have made true; null: it has done all. As far as the log reaches back.
   */
  oldestUnapplied(limit: number): Promise<readonly Unapplied[]>;
}

export type DesiredState = Readonly<{
  epoch: Epoch;
  revision: number;
  machine: Machine;
  pools: readonly Pool[];
  slices: readonly Slice[];
  holders: readonly Holder[];
  leases: readonly Lease[];
  /** What a stranger has or had, of slices that the machine owns. */
  blocked: readonly Blocked[];
  /** Of a machine that grants itself: those that may be about its grants, the oldest first; as many as are kept, the newest. */
  revocations: readonly Revocation[];
}>;

/** Ports that are kept out of grants because a stranger was met on them. */
export type Blocked = Readonly<{ slice: number; protocol: Protocol; ports: PortRange }>;

/** `blocked`: the shared blocks that nobody may join, because a stranger kept a member out. */
export type Tiling = Readonly<{
  extents: readonly Extent[];
  leases: readonly Lease[];
  blocked: readonly SharedBlock[];
}>;

export type Unapplied = Readonly<{ machine: string; at: number | null }>;

/**
 * `withheld`: free, but of a slice that the server does not grant from, because it drains or is not confirmed yet.
 * `machine_allocated`: of a slice that the machine grants in; which of them are free it alone knows.
 */
export type UsageRow = Readonly<{
  pool: string;
  machine: string;
  family: Family;
  protocol: Protocol;
  state: 'free' | 'withheld' | 'machine_allocated' | 'blocked' | 'exclusive' | 'shared' | 'cooling';
  ports: number;
}>;
