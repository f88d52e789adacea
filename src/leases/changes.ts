import type { Protocol } from '../net/protocol.ts';
import type {
  AccessToken,
  AuditEntry,
  Epoch,
  Event,
  Extent,
  Holder,
  KeptAnswer,
  Lease,
  Machine,
  Pool,
  Revocation,
  Router,
  Session,
  SharedBlock,
  Slice,
  Tenure,
} from './model.ts';
import type { Broker, ReportedLease, ReportedSession } from './reported.ts';
import type { Change } from './table.ts';

/** What a batch did to the table, for the store to write in one transaction. */
export type Changes = Readonly<{
  pools: readonly Change<Pool>[];
  machines: readonly Change<Machine>[];
  holders: readonly Change<Holder>[];
  slices: readonly Change<Slice>[];
  tenures: readonly Change<Tenure>[];
  sessions: readonly Change<Session>[];
  leases: readonly Change<Lease>[];
  extents: readonly Change<Extent>[];
  blocks: readonly Change<SharedBlock>[];
  accessTokens: readonly Change<AccessToken>[];
  revocations: readonly Change<Revocation>[];
  routers: readonly Change<Router>[];
  keptAnswers: readonly Change<KeptAnswer>[];
  epochs: readonly Change<Epoch>[];
  brokers: readonly Change<Broker>[];
  reportedSessions: readonly Change<ReportedSession>[];
  reportedLeases: readonly Change<ReportedLease>[];
  /** New ones, in order. */
  audit: readonly AuditEntry[];
  /** By how much what holders have is another, on machines where that is counted. */
  held: readonly HeldPorts[];
  /** In order, without a gap from the revision that the view began with, but for where an epoch begins. */
  events: readonly Event[];
}>;

/** Ports of a protocol that a holder has: of its pending, active and ending leases. */
export type HeldPorts = Readonly<{ machine: string; holder: string; protocol: Protocol; ports: number }>;
