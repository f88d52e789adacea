import type { Address, Family } from '../net/address.ts';
import type { PortRange } from '../net/ports.ts';
import type { Prefix } from '../net/prefix.ts';
import type { Protocol } from '../net/protocol.ts';
import type { Result } from '../net/result.ts';
import type { Selector } from '../net/selector.ts';
import type { LeaseError } from './errors.ts';
import type {
  AccessToken,
  Allocator,
  AuditEntry,
  Binding,
  CarveOut,
  Epoch,
  Holder,
  HolderKind,
  HolderLimits,
  Labels,
  Lease,
  Machine,
  Mode,
  Pool,
  Revocation,
  Role,
  Router,
  RouterDemand,
  Session,
  SessionEnding,
  Slice,
  TokenQuota,
  Want,
} from './model.ts';
import type { Broker, ReportedCounters, ReportedLease, ReportedPorts, ReportedSession } from './reported.ts';
import type { UsageRow } from './store.ts';

/** For whom a command is carried out; whatever it touches must belong to them, checked where nothing can race it. */
export type Scope = Readonly<{
  machine?: string;
  holder?: string;
  /** An agent acts for what it runs itself only: fish and terminator. */ runByAgent?: true;
}>;
export const everything: Scope = {};

/**
 * The revision that whoever asks for a change has seen: with another one by now, nothing is changed. Several: any of them; an
 * empty list: none, it is not to be there yet. Null: whatever it is, if it is there. Without: in any case.
 */
export type IfRevision = Readonly<{ ifRevision?: number | readonly number[] | null }>;

/** A slice is to leave its machine: what still lives in it ends at the deadline (a length of time from now), or at once. */
export type Leaving = IfRevision & Readonly<{ id: number; deadlineUs?: number | null; force?: boolean }>;

/** What is asked of `count` leases that are alike. */
export type Claim = Readonly<{
  protocol: Protocol;
  ports: number | null;
  count: number;
  mode: Mode;
  binding: Binding | null;
  pool: string | null;
  /** Of pools with such labels only. */
  select: Selector | null;
  family: Family | null;
  /** On the address of the holder's last sticky claim, as long as there is room. */
  sticky: boolean;
  /** Any block on this address, and on no other. */
  address: Address | null;
  /** This very block. Then `count` is 1. */
  at: Readonly<{ address: Address; firstPort: number }> | null;
}>;

/** Leases without a session: they end when somebody ends them, or when the unit of the machine that they are for is gone. */
export type Reservation = Readonly<{ machine: string; holder: string; unit: string | null }>;

export type Recipient = Readonly<{ session: number }> | Readonly<{ reservation: Reservation }>;

/** How the leases of one request lie: on one address, on as many as can be, or as each is best served. */
export type Placement = 'any' | 'same_address' | 'spread';

/** When a token ends by itself: at an instant, so long from now, or never (null). */
export type TokenExpiry = Readonly<{ at: number }> | Readonly<{ ttlUs: number }> | null;

export type LeaseReport = Readonly<{ lease: number; token: string }> &
  (
    | Readonly<{ state: 'active' | 'empty' | 'unit_gone' }>
    | Readonly<{ state: 'refused'; errno: string; detail: string }>
  );
/** The strangers on blocked ports are gone. */
export type ClearReport = Readonly<{ slice: number; generation: number; protocol: Protocol; ports: PortRange }>;
export type SliceReport = Readonly<{ slice: number; generation: number; state: 'assigned' | 'empty' }>;
/** Why a report moved nothing. What it says a second time, or too late to matter, is not rejected. */
export type RejectionCode =
  | 'lease_not_found'
  | 'slice_not_found'
  | 'not_yours'
  | 'stale_token'
  /** It was taken back while the machine was out of reach: nobody waits for its word. */
  | 'reclaimed'
  /**
   * `empty` for a lease that is not ending, or for a slice that still has live leases, or that neither drains nor is granted in
   * by its machine; `refused` for a lease that is ending, which is over when it is proven `empty`.
   */
  | 'in_use'
  /** `refused` for a lease that is active: it was made true before. */
  | 'already_active'
  /** `assigned` for a slice that its routers do not know the way to yet: its machine was not told of it. */
  | 'not_routed'
  /** `unit_gone` for a lease that is not of a unit. */
  | 'no_unit'
  /** `clear` for ports that are not blocked. */
  | 'nothing_blocked';
export type RejectedReport = Readonly<{ item: string; code: RejectionCode; detail: string }>;

/** A report of the broker of a machine, see `wire/broker.ts`. Leases and sessions are of `machine`. */
export type GrantedReport = Readonly<{
  machine: string;
  bootId?: string | undefined;
  epoch: string;
  after: number;
  through: number;
  asOf: number;
  snapshot: Readonly<{ page: number; isLast: boolean; historySince: number }> | null;
  sessions: readonly Omit<ReportedSession, 'machine' | 'incarnation' | 'told'>[];
  leases: readonly Omit<ReportedLease, 'machine' | 'pool' | 'address' | 'incarnation' | 'told' | 'reason'>[];
  /** Absent: as they were. */
  ports?: readonly ReportedPorts[];
  counters?: ReportedCounters;
}>;
export type RejectedGrant = Readonly<{
  lease: number;
  /**
   * The machine never had this generation of the slice to grant in; or has it no longer, and the lease is not told to be
   * over; or the ports are not of the slice.
   */
  code: 'not_allocated' | 'stale_generation' | 'outside_slice';
  detail: string;
}>;
export type GrantedOutcome = Readonly<{ broker: Broker; rejected: readonly RejectedGrant[] }>;

/** A request that was turned away; `token` and what follows are null where nobody known was behind it. */
export type Denial = Pick<
  AuditEntry,
  'token' | 'tokenName' | 'role' | 'requestId' | 'remoteAddress' | 'operation' | 'target' | 'code'
> &
  Readonly<{ agoUs: number }>;

/** Why nothing of a pool and family was in question for a claim. */
export type Unsuitable =
  | 'other_pool'
  | 'other_family'
  | 'other_address'
  | 'other_labels'
  | 'slice_too_small'
  | 'machine_allocates'
  | 'not_offered';
export type Room = Readonly<{
  pool: string;
  family: Family;
  unsuitable: Unsuitable | null;
  ports: Readonly<Record<UsageRow['state'], number>>;
  /** Ports of the largest aligned block that is free; 0 where nothing is. */
  largest: number;
}>;
export type Explanation = Readonly<{
  machine: Machine;
  /** Null: for anybody. */
  holder: string | null;
  verdict: Result<readonly Lease[], LeaseError>;
  /** Which claim the refusal is about: the first that fails. Null where none does, or where it is about all of them. */
  failed: number | null;
  /** In the order of the question. */
  claims: readonly ExplainedClaim[];
  revision: number;
}>;
export type ExplainedClaim = Readonly<{
  /** What it comes to after those before it that can be granted; null: it can be. */
  error: LeaseError | null;
  /** Of its protocol, by pool and family. */
  rooms: readonly Room[];
  /** When the next ports of its protocol leave their rest. */
  nextRestAt: number | null;
}>;

/** Everything that changes the table. One entry, one decision, one outcome; a command that fails changes nothing. */
export type Commands = {
  createPool: {
    input: Readonly<{
      id: string;
      labels: Labels;
      prefixes: readonly Prefix[];
      carveOuts?: readonly CarveOut[];
      slicePorts: number;
      usablePorts: PortRange;
      sharedBlockPorts: number;
      cooldownUs: Readonly<Record<Protocol, number>>;
      /** Nobody is waited for, when not given. */
      routers?: RouterDemand;
    }>;
    output: Pool;
  };
  /** What is not named stays. Lists are named as a whole. */
  updatePool: {
    input: IfRevision &
      Readonly<{
        id: string;
        labels?: Labels;
        prefixes?: readonly Prefix[];
        carveOuts?: readonly CarveOut[];
        sharedBlockPorts?: number;
        cooldownUs?: Readonly<Record<Protocol, number>>;
        routers?: RouterDemand;
      }>;
    output: Pool;
  };
  deletePool: { input: IfRevision & Readonly<{ id: string }>; output: Pool };
  createMachine: {
    input: Readonly<{
      id: string;
      labels: Labels;
      enforcement: 'agent' | 'none';
      fenceUs: number;
      mark?: number | null;
      nextHops?: readonly Address[];
      wants?: readonly Want[];
    }>;
    output: Machine;
  };
  updateMachine: {
    input: IfRevision &
      Readonly<{
        id: string;
        state?: Machine['intent'];
        /** Draining: a length of time from now, after which the leases of its slices end. */
        drainDeadlineUs?: number | null;
        labels?: Labels;
        /** In the table of a broker only, which fences nobody. */
        fenceUs?: number;
        mark?: number | null;
        nextHops?: readonly Address[];
        /** All of them. */
        wants?: readonly Want[];
      }>;
    output: Machine;
  };
  /** Only one that nothing lives on. Its holders go with it, and its tokens are revoked. */
  deleteMachine: { input: IfRevision & Readonly<{ id: string }>; output: Machine };
  putHolder: {
    /**
     * What is absent stays as it is, or is not there yet: no user id, no limits. Of user id and cgroup the one that is
     * given takes the place of the other; both at once are no command. `holderKind`: `kind` is the command's.
     */
    input: IfRevision &
      Readonly<{
        machine: string;
        name: string;
        holderKind: HolderKind;
        uid?: number | null;
        cgroup?: string | null;
        limits?: HolderLimits | null;
      }>;
    output: Holder;
  };
  /** Only one that nothing lives of. Its tokens are revoked. */
  deleteHolder: { input: IfRevision & Readonly<{ machine: string; name: string }>; output: Holder };
  assignSlices: {
    input: Readonly<{
      machine: string;
      pool: string;
      count: number;
      family: Family | null;
      at: Readonly<{ address: Address; firstPort: number }> | null;
      /** Absent: the server. */
      allocator?: Allocator;
    }>;
    output: readonly Slice[];
  };
  /** No new grants; free once its leases are over, the agent proved it empty and the cooldown has passed. */
  drainSlice: { input: Leaving; output: Slice };
  /** The same, and then it goes to another machine, granted from by `allocator`; absent: the server. */
  moveSlice: { input: Leaving & Readonly<{ machine: string; allocator?: Allocator }>; output: Slice };
  /** The same, and then it comes back to its machine, granted from by the other allocator. */
  handOverSlice: { input: Leaving & Readonly<{ allocator: Allocator }>; output: Slice };
  reclaimSlice: { input: IfRevision & Readonly<{ id: number }>; output: Slice };
  /** In a broker's table: the slice was handed to it, under this generation. See `adoption.ts`. */
  adoptSlice: {
    input: Pick<Slice, 'id' | 'generation' | 'pool' | 'address' | 'ports'> &
      Readonly<{ machine: string; state: 'assigning' | 'assigned' }>;
    output: Slice;
  };
  /** In a broker's table: the slice is the machine's no more, whatever lives in it. */
  forgoSlice: { input: Readonly<{ id: number }>; output: Slice };
  /** An operator states that the stranger on a blocked extent is gone. */
  unblock: { input: IfRevision & Readonly<{ slice: number; protocol: Protocol; ports: PortRange }>; output: Slice };
  openSession: { input: Readonly<{ scope: Scope; machine: string; holder: string; ttlUs: number }>; output: Session };
  keepSession: { input: Readonly<{ scope: Scope; id: number }>; output: Session };
  endSession: { input: Readonly<{ scope: Scope; id: number; ending: SessionEnding }>; output: Session };
  grantLeases: {
    input: Readonly<{ scope: Scope; claims: readonly Claim[]; placement?: Placement }> & Recipient;
    output: readonly Lease[];
  };
  /** What would be granted, or why nothing would, and how full the machine is. Grants nothing. */
  explainGrant: {
    input: Readonly<{ scope: Scope; claims: readonly Claim[]; placement?: Placement }> &
      (Recipient | Readonly<{ bystander: string }>);
    output: Explanation;
  };
  releaseLease: { input: Readonly<{ scope: Scope; id: number; token: string }>; output: Lease };
  /** Every lease that all of these hold of. At the deadline (a length of time from now), or at once without one. */
  revokeLeases: {
    input: Readonly<{
      machine: string | null;
      holder: string | null;
      pool: string | null;
      /** Over the labels of pools. */
      select: Selector | null;
      prefix: Prefix | null;
      session: number | null;
      lease: number | null;
      deadlineUs: number | null;
      /** Never with a deadline. */
      forced: boolean;
      reason: string;
    }>;
    output: Revocation;
  };
  /** With a deadline (a length of time from now) a revocation of this one lease follows, which goes on until then. */
  revokeLease: {
    input: Readonly<{ id: number; deadlineUs: number | null; forced: boolean; reason: string }>;
    output: Lease;
  };
  /** What an agent made true. Each report stands alone: a stale one is rejected, the others count. */
  report: {
    input: Readonly<{
      machine: string;
      /** Which boot of the host speaks; undefined: it does not say. */
      bootId?: string | undefined;
      revision: number;
      leases: readonly LeaseReport[];
      slices: readonly SliceReport[];
      clear?: readonly ClearReport[];
    }>;
    output: Readonly<{ revision: number; rejected: readonly RejectedReport[] }>;
  };
  /** What the broker of a machine granted and ended. Entries that cannot be are rejected, the others count. */
  reportGranted: { input: GrantedReport; output: GrantedOutcome };
  agentKeepalive: {
    input: Readonly<{ machine: string; bootId: string; version: string; appliedRevision: number }>;
    output: Readonly<{ revision: number; fenceUs: number }>;
  };
  putRouter: { input: Readonly<{ id: string; labels: Labels }>; output: Router };
  /** Nobody waits for it any more, and its tokens are revoked. */
  deleteRouter: { input: Readonly<{ id: string }>; output: Router };
  /** All that the log says about routes, through `revision`, is true on the router. */
  routerApplied: { input: Readonly<{ router: string; revision: number }>; output: Router };
  createToken: {
    input: Readonly<{
      name: string;
      role: Role;
      machine: string | null;
      holder: string | null;
      router?: string | null;
      hash: string;
      /** Absent: it never expires. */
      expiry?: TokenExpiry;
      quota?: TokenQuota;
    }>;
    output: AccessToken;
  };
  /** What is absent stays as it is. */
  updateToken: {
    input: Readonly<{ id: number; name?: string; expiry?: TokenExpiry; quota?: TokenQuota }>;
    output: AccessToken;
  };
  /** A new secret; the one before it is accepted for `graceUs` more, the one before that no longer. */
  rotateToken: {
    input: Readonly<{ id: number; hash: string; graceUs: number; expiry?: TokenExpiry }>;
    output: AccessToken;
  };
  /**
   * A client has seen this revision of this epoch. When this table was never there, it lacks what was answered before: an
   * epoch begins that is in doubt.
   */
  weighSeen: {
    input: Readonly<{
      epoch: string;
      revision: number;
      /** Who says so, for people. */
      witness: string;
      /** A random identity for the epoch that begins, if one does. */
      newId: string;
    }>;
    /** The epoch that the table is in then. */
    output: Readonly<{ epoch: number; isInDoubt: boolean }>;
  };
  /** Somebody answers for it that no port is given twice by this table as it is. */
  confirmEpoch: { input: Readonly<{ number: number; by: string }>; output: Epoch };
  revokeToken: { input: Readonly<{ id: number }>; output: AccessToken };
  /** When tokens were last used, many at once. One row for each and no event: it changes nothing. */
  noteTokenUses: {
    input: Readonly<{ uses: readonly Readonly<{ token: number; agoUs: number }>[] }>;
    output: Readonly<{ noted: number }>;
  };
  /** Requests that were turned away: at most `limits.denials_max`. `agoUs`: how long before this command. */
  noteDenials: {
    input: Readonly<{ denials: readonly Denial[] }>;
    output: Readonly<{ noted: number }>;
  };
  /**
   * What time alone brings about, at most `itemsMax` rows of each kind: expiry, settling of ended sessions, end of rests,
   * machines whose agent fell silent.
   */
  sweep: { input: Readonly<{ itemsMax: number }>; output: Readonly<{ moved: number; more: boolean }> };
};

export type CommandKind = keyof Commands;
export type Command<K extends CommandKind = CommandKind> = {
  [P in K]: Readonly<{ kind: P }> & Commands[P]['input'];
}[K];
export type Output<K extends CommandKind> = Commands[K]['output'];
