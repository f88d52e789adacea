import type { Address } from '../net/address.ts';
import type { PortRange } from '../net/ports.ts';
import type { Prefix } from '../net/prefix.ts';
import type { Protocol } from '../net/protocol.ts';

/**
 * What the table of slices and leases consists of, as plain values. Times are microseconds since 1970 (`…At`) or
 * lengths in microseconds (`…Us`). Rows are never changed in place: a decision makes new ones.
 */

export type Labels = Readonly<Record<string, string>>;

export type Pool = Readonly<{
  id: string;
  labels: Labels;
  prefixes: readonly Prefix[];
  slicePorts: number;
  usablePorts: PortRange;
  sharedBlockPorts: number;
  cooldownUs: Readonly<Record<Protocol, number>>;
  /** Slot of the next slice that was never made yet, one per prefix: a /48 has no rows of its own. */
  cursors: readonly bigint[];
  createdAt: number;
  updatedAt: number;
  revision: number;
}>;

export type MachineState = 'active' | 'cordoned' | 'draining' | 'fenced' | 'lost';
export type Machine = Readonly<{
  id: string;
  labels: Labels;
  enforcement: 'agent' | 'none';
  state: MachineState;
  fenceUs: number;
  agent: Readonly<{ bootId: string; version: string; seenAt: number; appliedRevision: number }> | null;
  createdAt: number;
  updatedAt: number;
  revision: number;
}>;

export type Holder = Readonly<{
  machine: string;
  name: string;
  kind: 'fish' | 'proxy';
  uid: number | null;
  createdAt: number;
  updatedAt: number;
  revision: number;
}>;

export type SliceState = 'assigning' | 'assigned' | 'draining' | 'cooling' | 'free';
export type Slice = Readonly<{
  id: number;
  pool: string;
  address: Address;
  ports: PortRange;
  machine: string | null;
  state: SliceState;
  /** Rises each time the slice changes hands; a message that carries an older one is refused. */
  generation: number;
  allocator: 'server' | 'machine';
  assignedAt: number | null;
  reusableAt: number | null;
  revision: number;
}>;

/** Who owned a slice when: what attribution asks. `until` is null while it lasts. */
export type Tenure = Readonly<{
  slice: number;
  generation: number;
  machine: string;
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
  session: number | null;
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
  grantedAt: number;
  activeAt: number | null;
  endingAt: number | null;
  reusableAt: number | null;
  endedAt: number | null;
  revision: number;
}>;

/** A piece of a slice that nobody leases: free, or blocked by a stranger. With the live leases these tile the slice. */
export type Extent = Readonly<{
  slice: number;
  protocol: Protocol;
  ports: PortRange;
  machine: string;
  pool: string;
  state: 'free' | 'blocked';
  /** Exponent of the largest aligned block inside: the indexed search key of a grant. */
  fit: number;
  /** Since when nobody used it; the longest rested is granted first. */
  restedSince: number;
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
  );

export type Role = 'operator' | 'viewer' | 'agent' | 'holder' | 'router';
export type AccessToken = Readonly<{
  id: number;
  name: string;
  role: Role;
  machine: string | null;
  holder: string | null;
  /** SHA-256 of the secret; the secret itself is shown once and never stored. */
  hash: string;
  createdAt: number;
  revokedAt: number | null;
}>;

/** Text form of a lease's token: generation, allocator epoch, sequence. */
export const formatToken = (lease: Pick<Lease, 'generation' | 'epoch' | 'id'>): string =>
  `${lease.generation}.${lease.epoch}.${lease.id}`;
