import type { Address } from '../net/address.ts';
import type { Protocol } from '../net/protocol.ts';
import type { Command } from './commands.ts';
import type {
  AccessToken,
  Event,
  Extent,
  Holder,
  Lease,
  LeaseState,
  Machine,
  Pool,
  Session,
  SessionEnding,
  Slice,
  Tenure,
} from './model.ts';
import type { Changes, View } from './view.ts';

/**
 * All that the lease core asks of a database. Declared here because it is used here.
 * `transact` is the whole of group commit: one batch, one view, one transaction, one fsync.
 */
export interface Store {
  /**
   * Loads what the batch may touch, lets `decide` (pure, synchronous) work on it, and writes what it changed in one
   * transaction; resolves only when that is durable. On a database with several writers the batch's machines are locked in
   * id order and the revision counter is taken last, before `decide` runs.
   */
  transact<T>(batch: readonly Command[], decide: (view: View) => Readonly<{ changes: Changes; result: T }>): Promise<T>;
  readonly reader: Reader;
  close(): Promise<void>;
}

export type PageRequest = Readonly<{ limit: number; cursor: string | null }>;
export type PageOf<T> = Readonly<{ items: readonly T[]; next: string | null }>;

export type LeaseFilter = Readonly<{
  machine?: string;
  holder?: string;
  session?: number;
  slice?: number;
  pool?: string;
  protocol?: Protocol;
  state?: LeaseState;
}>;
export type SliceFilter = Readonly<{ machine?: string; pool?: string; state?: Slice['state']; address?: Address }>;
export type SessionFilter = Readonly<{ machine?: string; holder?: string; state?: Session['state'] }>;

/** What is read outside of decisions. Lease states come out as they are in effect: those of an ended session are `ending`. */
export interface Reader {
  epoch(): Promise<string>;
  revision(): Promise<number>;
  pool(id: string): Promise<Pool | undefined>;
  pools(page: PageRequest): Promise<PageOf<Pool>>;
  poolSlices(pool: string): Promise<Readonly<{ assigned: number; cooling: number }>>;
  machine(id: string): Promise<Machine | undefined>;
  machines(page: PageRequest): Promise<PageOf<Machine>>;
  holder(machine: string, name: string): Promise<Holder | undefined>;
  holders(machine: string, page: PageRequest): Promise<PageOf<Holder>>;
  slice(id: number): Promise<Slice | undefined>;
  slices(filter: SliceFilter, page: PageRequest): Promise<PageOf<Slice>>;
  /** Free and blocked pieces, and the live leases (pending to cooling): together they tile the slice. */
  tiling(slice: number): Promise<Readonly<{ extents: readonly Extent[]; leases: readonly Lease[] }>>;
  session(id: number): Promise<Session | undefined>;
  sessions(filter: SessionFilter, page: PageRequest): Promise<PageOf<Session>>;
  lease(id: number): Promise<Lease | undefined>;
  leases(filter: LeaseFilter, page: PageRequest): Promise<PageOf<Lease>>;
  /** One consistent snapshot: everything an agent must make true, at `revision`. */
  desired(machine: string): Promise<DesiredState | undefined>;
  /** Events after `revision` in order; `machine` narrows to what its watchers care about. */
  eventsAfter(revision: number, machine: string | null, limit: number): Promise<readonly Event[]>;
  /** The oldest revision still in the log; 1 when nothing was compacted. */
  oldestRevision(): Promise<number>;
  tenureAt(address: Address, port: number, at: number): Promise<Readonly<{ tenure: Tenure; slice: Slice }> | undefined>;
  /** Leases that covered (slice, protocol, port) at that instant: from grant until their users were proven gone. */
  leasesAt(slice: number, generation: number, protocol: Protocol, port: number, at: number): Promise<readonly Lease[]>;
  accessToken(hash: string): Promise<AccessToken | undefined>;
  accessTokens(page: PageRequest): Promise<PageOf<AccessToken>>;
  /** Counts for metrics: live leases and ports by state, protocol and mode. */
  usage(): Promise<readonly UsageRow[]>;
}

export type DesiredState = Readonly<{
  revision: number;
  machine: Machine;
  pools: readonly Pool[];
  slices: readonly Slice[];
  holders: readonly Holder[];
  leases: readonly Lease[];
}>;

export type UsageRow = Readonly<{
  pool: string;
  machine: string;
  protocol: Protocol;
  state: 'free' | 'blocked' | 'exclusive' | 'shared' | 'cooling';
  ports: number;
}>;

export type EffectiveEnding = Readonly<{ state: 'ending'; ending: SessionEnding }>;
