import type { z } from 'zod';
import type {
  AgentKeepalive,
  AgentKeepaliveAnswer,
  Applied,
  AppliedAnswer,
  Change,
  Desired,
  EventList,
  FlowAnswer,
} from '../wire/agent.ts';
import type { Attribution, AttributionHistory } from '../wire/attribution.ts';
import type { Lease, LeaseGrant, LeaseList, LeaseRelease, LeaseRevoke } from '../wire/leases.ts';
import type { Page } from '../wire/lists.ts';
import type { Holder, HolderPut, Machine, MachineCreate, MachineUpdate } from '../wire/machines.ts';
import type { Pool, PoolCreate, PoolUpdate } from '../wire/pools.ts';
import type { Epoch, EpochConfirm } from '../wire/epochs.ts';
import type { About, Readiness } from '../wire/server.ts';
import type { Session, SessionOpen } from '../wire/sessions.ts';
import type {
  AllocatorChange,
  ExtentList,
  Slice,
  SliceAssign,
  SliceDrain,
  SliceList,
  SliceMove,
  Unblock,
} from '../wire/slices.ts';
import type { TokenCreate, TokenCreated, TokenInfo, TokenRotate, TokenUpdate } from '../wire/tokens.ts';

/**
 * One small story, told by every example of the documentation: a pool in Frankfurt, the machine edge-1 with a fish and
 * two proxies, a slice, a session, a lease. A test holds all of it against the schemas.
 */

const at = {
  created: '2026-01-31T14:00:00.000000Z',
  assigned: '2026-01-31T14:01:00.000000Z',
  granted: '2026-01-31T14:02:30.000000Z',
  active: '2026-01-31T14:02:30.012345Z',
  seen: '2026-01-31T14:03:07.250000Z',
  expires: '2026-01-31T14:03:30.000000Z',
  ended: '2026-01-31T14:05:00.000000Z',
} as const;

export * from './examples/broker.ts';

export const poolCreate: z.input<typeof PoolCreate> = {
  id: 'fra1',
  labels: { site: 'fra1', country: 'de' },
  prefixes: ['198.51.100.0/28', '2001:db8:0:1::/64'],
  carve_outs: [{ address: '198.51.100.1' }],
  slice_ports: 2_048,
  usable_ports: { first: 8_192, last: 65_535 },
  routers: { select: 'site=fra1', policy: 'all' },
};
export const poolUpdate: z.input<typeof PoolUpdate> = {
  carve_outs: [{ address: '198.51.100.1' }, { prefix: '198.51.100.8/30', ports: { first: 8_192, last: 10_239 } }],
};

export const pool: Pool = {
  id: 'fra1',
  labels: { site: 'fra1', country: 'de' },
  prefixes: ['198.51.100.0/28', '2001:db8:0:1::/64'],
  carve_outs: [{ prefix: '198.51.100.1/32', ports: null }],
  slice_ports: 2_048,
  usable_ports: { first: 8_192, last: 65_535 },
  shared_block_ports: 128,
  cooldown_s: { tcp: 120, udp: 120, icmp: 120 },
  routers: { select: 'site=fra1', policy: 'all' },
  slices: { total: '516508834063867445668', assigned: 1, cooling: 0 },
  created_at: at.created,
  updated_at: at.created,
  revision: 3,
};
export const updatedPool: Pool = {
  ...pool,
  carve_outs: [...pool.carve_outs, { prefix: '198.51.100.8/30', ports: { first: 8_192, last: 10_239 } }],
  slices: { total: '516508834063867445664', assigned: 1, cooling: 0 },
  updated_at: at.granted,
  revision: 40,
};

export const machineCreate: z.input<typeof MachineCreate> = {
  id: 'edge-1',
  labels: { rack: 'b7' },
  fence_s: 30,
  mark: 257,
  next_hops: ['192.0.2.11'],
  wants: [{ pool: 'fra1', family: 4, allocator: 'server', slices: 2 }],
};
export const machineUpdate: MachineUpdate = { state: 'draining', drain_deadline_s: 600 };

export const machine: Machine = {
  id: 'edge-1',
  labels: { rack: 'b7' },
  enforcement: 'agent',
  state: 'active',
  intent: 'active',
  drain_by: null,
  fence_s: 30,
  mark: 257,
  next_hops: ['192.0.2.11'],
  wants: [{ pool: 'fra1', family: 4, allocator: 'server', slices: 2, missing: 1 }],
  agent: {
    boot_id: '5f2d6b1c-8f0e-4c58-9b3e-0c6a51a2d5b7',
    version: '0.1.0',
    seen_at: at.seen,
    applied_revision: 57,
  },
  created_at: at.created,
  updated_at: at.seen,
  revision: 5,
};
export const drainingMachine: Machine = { ...machine, state: 'draining', intent: 'draining', drain_by: at.ended };

const holderLimits = { ports_min: { tcp: 256 }, ports_max: { tcp: 4_096, udp: 1_024 }, sessions_max: 8 };
export const holderPut: z.input<typeof HolderPut> = { kind: 'proxy', uid: 1_001, limits: holderLimits };
export const holder: Holder = {
  machine: 'edge-1',
  name: 'haproxy',
  kind: 'proxy',
  uid: 1_001,
  cgroup: null,
  limits: holderLimits,
  created_at: at.created,
  updated_at: at.created,
  revision: 6,
};

export const sliceAssign: z.input<typeof SliceAssign> = {
  machine: 'edge-1',
  pool: 'fra1',
  count: 1,
  allocator: 'server',
};
export const slice: Slice = {
  id: 'slice-12',
  pool: 'fra1',
  address: '198.51.100.10',
  ports: { first: 8_192, last: 10_239 },
  machine: 'edge-1',
  state: 'assigned',
  generation: 1,
  allocator: 'server',
  draining_since: null,
  drain_by: null,
  next: null,
  reclaimed: false,
  assigned_at: at.assigned,
  reusable_at: null,
  route: { state: 'routed', revision: 12, since: at.assigned },
  revision: 14,
};
export const assignedSlices: SliceList = {
  slices: [
    {
      ...slice,
      state: 'assigning',
      route: { state: 'adding', revision: 12, since: at.assigned },
      waiting_for: { routers: ['border-1'], age_s: 0.25 },
      revision: 12,
    },
  ],
};
export const sliceDrain: z.input<typeof SliceDrain> = { deadline_s: 120 };
export const drainingSlice: Slice = {
  ...slice,
  state: 'draining',
  draining_since: at.seen,
  drain_by: at.ended,
  revision: 61,
};
export const sliceMove: z.input<typeof SliceMove> = { machine: 'edge-2', allocator: 'server', deadline_s: 120 };
export const movingSlice: Slice = { ...drainingSlice, next: { machine: 'edge-2', allocator: 'server' } };
export const allocatorChange: z.input<typeof AllocatorChange> = { allocator: 'machine', deadline_s: 120 };
export const handedOverSlice: Slice = { ...drainingSlice, next: { machine: 'edge-1', allocator: 'machine' } };
export const reclaimedSlice: Slice = { ...drainingSlice, reclaimed: true };

export const extents: ExtentList = {
  slice: 'slice-12',
  extents: [
    {
      protocol: 'tcp',
      ports: { first: 8_192, last: 9_983 },
      state: 'free',
      binding: null,
      leases: [],
      blocked: null,
      reusable_at: null,
    },
    {
      protocol: 'tcp',
      ports: { first: 9_984, last: 10_111 },
      state: 'exclusive',
      binding: null,
      leases: ['lease-42'],
      blocked: null,
      reusable_at: null,
    },
    {
      protocol: 'tcp',
      ports: { first: 10_112, last: 10_239 },
      state: 'blocked',
      binding: null,
      leases: [],
      blocked: { since: at.granted, reason: 'EADDRINUSE: 198.51.100.10:10112 is bound by sshd (pid 812)' },
      reusable_at: null,
    },
    {
      protocol: 'udp',
      ports: { first: 8_192, last: 10_239 },
      state: 'free',
      binding: null,
      leases: [],
      blocked: null,
      reusable_at: null,
    },
    {
      protocol: 'icmp',
      ports: { first: 8_192, last: 10_239 },
      state: 'free',
      binding: null,
      leases: [],
      blocked: null,
      reusable_at: null,
    },
  ],
};
export const unblock: Unblock = { protocol: 'tcp', ports: { first: 10_112, last: 10_239 } };

export const sessionOpen: z.input<typeof SessionOpen> = { machine: 'edge-1', holder: 'haproxy', ttl_s: 30 };
export const session: Session = {
  id: 'session-40',
  machine: 'edge-1',
  holder: 'haproxy',
  state: 'live',
  ending: null,
  ttl_s: 30,
  expires_at: at.expires,
  opened_at: at.granted,
  ended_at: null,
  revision: 40,
};
export const endedSession: Session = {
  ...session,
  state: 'ended',
  ending: 'released',
  ended_at: at.ended,
  revision: 63,
};

export const leaseGrant: z.input<typeof LeaseGrant> = {
  session: 'session-40',
  claims: [{ protocol: 'tcp', ports: 100, mode: 'exclusive' }],
};
export const lease: Lease = {
  id: 'lease-42',
  token: '1.1.42',
  session: 'session-40',
  machine: 'edge-1',
  holder: 'haproxy',
  slice: 'slice-12',
  pool: 'fra1',
  address: '198.51.100.10',
  protocol: 'tcp',
  ports: { first: 9_984, last: 10_111 },
  mode: 'exclusive',
  binding: null,
  state: 'active',
  ending: null,
  refusal: null,
  granted_at: at.granted,
  active_at: at.active,
  ending_at: null,
  reusable_at: null,
  ended_at: null,
  revision: 43,
};
const pendingLease: Lease = { ...lease, state: 'pending', active_at: null, revision: 42 };
const endingLease: Lease = { ...lease, state: 'ending', ending_at: at.ended, revision: 62 };
export const releasedLease: Lease = { ...endingLease, ending: 'released' };
export const revokedLease: Lease = { ...endingLease, ending: 'revoked', reason: 'abuse report 2026-118' };
export const leaseRelease: LeaseRelease = { token: '1.1.42' };
export const leaseRevoke: LeaseRevoke = { reason: 'abuse report 2026-118' };
export const granted: LeaseList = { leases: [lease], revision: 43 };
export const grantedPending: LeaseList = { leases: [pendingLease], revision: 42 };

const { routers: _, slices: _made, created_at: _at, updated_at: _changed, revision: _revision, ...desiredPool } = pool;
export const desired: Desired = {
  epoch: '1',
  revision: 43,
  machine: 'edge-1',
  state: 'active',
  fence_s: 30,
  pools: [desiredPool],
  slices: [slice],
  holders: [holder],
  leases: [lease],
  blocked: [{ slice: 'slice-12', generation: 1, protocol: 'tcp', ports: { first: 10_112, last: 10_239 } }],
  revocations: [],
};
export const change: Change = { kind: 'lease', revision: 42, at: at.granted, lease: pendingLease };
export const eventList: EventList = { events: [change], next_after: 42, revision: 43 };

/** As it passes over the connection. */
export const stream = [
  `id: 42\nevent: change\ndata: ${JSON.stringify(change)}\n`,
  `id: 43\nevent: bookmark\ndata: ${JSON.stringify({ revision: 43 })}\n`,
  '',
].join('\n');

export const applied: z.input<typeof Applied> = {
  revision: 42,
  leases: [{ lease: 'lease-42', token: '1.1.42', state: 'active' }],
  slices: [{ slice: 'slice-12', generation: 1, state: 'assigned' }],
};
export const appliedAnswer: AppliedAnswer = { revision: 43, rejected: [] };
export const agentKeepalive: AgentKeepalive = {
  boot_id: '5f2d6b1c-8f0e-4c58-9b3e-0c6a51a2d5b7',
  version: '0.1.0',
  applied_revision: 43,
};
export const agentKeepaliveAnswer: AgentKeepaliveAnswer = {
  epoch: '1',
  revision: 57,
  fence_s: 30,
  now: '2026-01-31T14:03:07.250000Z',
};
export const flowAnswer: z.input<typeof FlowAnswer> = {
  id: 'flow-7',
  covers_since: at.created,
  covers_through: at.seen,
  clock_margin_s: 0.01,
  flows: [
    {
      holder: 'fish',
      lease: 'lease-44',
      client: '100.64.3.7:51312',
      remote_address: '203.0.113.80',
      remote_port: 443,
      opened_at: at.active,
      closed_at: null,
    },
  ],
};

export const attribution: Attribution = {
  address: '198.51.100.10',
  protocol: 'tcp',
  port: 10_001,
  at: at.seen,
  machine: { id: 'edge-1', slice: 'slice-12', generation: 1 },
  holders: [
    {
      holder: 'haproxy',
      lease: 'lease-42',
      mode: 'exclusive',
      basis: 'exclusive_lease',
      client: null,
      from: at.granted,
      until: null,
    },
  ],
  certainty: 'exact',
  flow_log: 'not_asked',
  flow_log_margin_s: null,
  complete_through: at.seen,
  history_since: null,
};

export const attributionHistory: AttributionHistory = {
  items: [
    {
      lease: 'lease-42',
      machine: 'edge-1',
      slice: 'slice-12',
      generation: 1,
      holder: 'haproxy',
      session: 'session-40',
      address: '198.51.100.10',
      protocol: 'tcp',
      ports: { first: 9_984, last: 10_111 },
      mode: 'exclusive',
      from: at.granted,
      active_at: at.active,
      ending_at: at.expires,
      ending: 'released',
      until: at.ended,
    },
  ],
  next: null,
  machines: [{ id: 'edge-1', complete_through: at.seen }],
  machine_allocated: [],
  history_since: null,
};

export const bulkQuestions = `ref,address,protocol,port,at,remote_address,remote_port
case-7,198.51.100.10,tcp,10001,2026-01-31T14:03:07.25Z,203.0.113.80,443
case-8,198.51.100.10,tcp,70000,2026-01-31T14:03:07Z,,
`;
export const bulkAnswers = `line,ref,address,protocol,port,at,machine,slice,generation,certainty,holders,leases,basis,client,flow_log,complete_through,history_since,error,detail
2,case-7,198.51.100.10,tcp,10001,${at.seen},edge-1,slice-12,1,exact,haproxy,lease-42,exclusive_lease,,not_asked,${at.seen},,,
3,case-8,,,,,,,,,,,,,,,,validation_failed,port: Too big: expected number to be <=65535
`;

export const bulkAnswersNdjson = `${JSON.stringify({ line: 2, ref: 'case-7', ...attribution })}\n`;

export const tokenCreate: TokenCreate = {
  name: 'haproxy-edge-1',
  role: 'holder',
  machine: 'edge-1',
  holder: 'haproxy',
  ttl_s: 7_776_000,
};
export const token: TokenInfo = {
  id: 'token-9',
  name: 'haproxy-edge-1',
  role: 'holder',
  machine: 'edge-1',
  holder: 'haproxy',
  limits: { requests_per_s: null, requests_burst: null, watchers_max: null },
  router: null,
  created_at: at.created,
  rotated_at: null,
  former_secret_until: null,
  expires_at: '2026-05-01T14:00:00.000000Z',
  revoked_at: null,
  last_used_at: at.seen,
};
export const revokedToken: TokenInfo = { ...token, revoked_at: at.ended };
export const tokenUpdate: TokenUpdate = { limits: { requests_per_s: 50, requests_burst: 100 } };
export const limitedToken: TokenInfo = {
  ...token,
  limits: { requests_per_s: 50, requests_burst: 100, watchers_max: null },
};
export const tokenRotate: TokenRotate = { grace_s: 86_400 };
// Made of 32 zero bytes: well-formed, and nobody's.
const secret = 'fsh_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAADCtZhg';
export const tokenCreated: TokenCreated = { token, secret };
export const rotatedToken: TokenCreated = {
  token: { ...token, rotated_at: at.ended, former_secret_until: '2026-02-01T14:05:00.000000Z' },
  secret,
};

export const epochInDoubt: Epoch = {
  number: 2,
  id: 'b2f0a9c4-5d0e-4c39-8f57-0d8e6f1c7a11',
  state: 'in_doubt',
  cause: 'older_than_mark',
  detail: 'the database ends at revision 900, and 950 had been given out',
  lost_after: 900,
  first_revision: 1_000_000_000_001,
  began_at: at.created,
  confirmed_at: null,
  confirmed_by: null,
};
export const epoch: Epoch = {
  ...epochInDoubt,
  state: 'confirmed',
  confirmed_at: at.seen,
  confirmed_by: 'token-9 (operator admin)',
};
export const epochConfirm: EpochConfirm = { epoch: 2 };

export const about: About = {
  name: 'fishery',
  version: '0.1.0',
  protocol_version: 1,
  docs: '/docs',
  openapi: '/openapi.json',
};
export const readiness: Readiness = { status: 'ready', reason: null, revision: 57 };
export const metrics = [
  '# HELP fishery_pool_ports Ports of slices that machines own, by pool and what they are. Site: the label of the pool.',
  '# TYPE fishery_pool_ports gauge',
  'fishery_pool_ports{pool="fra1",site="fra1",protocol="tcp",state="exclusive"} 128',
  '',
].join('\n');

export const pageWith = <T>(item: T): Page<T> => ({ items: [item], next: null });
