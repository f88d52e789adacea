import type {
  Epoch,
  Event,
  Extent,
  Holder,
  HolderLimits,
  Lease,
  Machine,
  Pool,
  Revocation,
  Router,
  RouterDemand,
  Session,
  Slice,
  TokenFacts,
} from '../leases/model.ts';
import { formatToken } from '../leases/model.ts';
import type { Broker as BrokerOnWire } from '../wire/broker.ts';
import type { Broker, ReportedLease, ReportedSession } from '../leases/reported.ts';
import type { PastLease as Had, DesiredState, PageOf, Tiling } from '../leases/store.ts';
import { protocols, type Protocol } from '../net/protocol.ts';
import type * as agent from '../wire/agent.ts';
import type { PastLease } from '../wire/attribution.ts';
import type * as epochs from '../wire/epochs.ts';
import { formatInstant } from '../wire/instants.ts';
import type * as leases from '../wire/leases.ts';
import type { Page } from '../wire/lists.ts';
import type * as machines from '../wire/machines.ts';
import type * as pools from '../wire/pools.ts';
import type * as revocations from '../wire/revocations.ts';
import type * as routers from '../wire/routers.ts';
import type * as sessions from '../wire/sessions.ts';
import type * as slices from '../wire/slices.ts';
import type * as tokens from '../wire/tokens.ts';
import { encodeCursor } from './requests.ts';
import { seconds } from './units.ts';

/** Rows as they look on the wire: identifiers with their word, instants as text, lengths of time in seconds. */

const instantOrNull = (us: number | null): string | null => (us === null ? null : formatInstant(us));

export const page = <T, W>(from: PageOf<T>, present: (item: T) => W): Page<W> => ({
  items: from.items.map(present),
  next: from.next === null ? null : encodeCursor(from.next),
});

export type SliceCounts = Readonly<{ total: bigint; assigned: number; cooling: number }>;

export const presentPool = (pool: Pool, { total, assigned, cooling }: SliceCounts): pools.Pool => ({
  ...presentPoolTerms(pool),
  slices: { total: String(total), assigned, cooling },
});

const presentPoolTerms = (pool: Pool): agent.PoolTerms => ({
  id: pool.id,
  labels: { ...pool.labels },
  prefixes: [...pool.prefixes],
  carve_outs: pool.carveOuts.map(({ prefix, ports }) => ({ prefix, ports })),
  slice_ports: pool.slicePorts,
  usable_ports: pool.usablePorts,
  shared_block_ports: pool.sharedBlockPorts,
  cooldown_s: {
    tcp: seconds(pool.cooldownUs.tcp),
    udp: seconds(pool.cooldownUs.udp),
    icmp: seconds(pool.cooldownUs.icmp),
  },
  routers: presentDemand(pool.routers),
  created_at: formatInstant(pool.createdAt),
  updated_at: formatInstant(pool.updatedAt),
  revision: pool.revision,
});

const presentDemand = ({ ids, select, policy }: RouterDemand): routers.PoolRouters => ({
  ...(ids === null ? {} : { ids: [...ids] }),
  ...(select === null ? {} : { select }),
  policy: typeof policy === 'number' ? { at_least: policy } : policy,
});

/** As the core takes it. */
export const demandOf = ({ ids, select, policy }: routers.PoolRouters): RouterDemand => ({
  ids: ids ?? null,
  select: select ?? null,
  policy: typeof policy === 'string' ? policy : policy.at_least,
});

export const presentRouter = (router: Router): routers.Router => ({
  id: router.id,
  labels: { ...router.labels },
  applied_revision: router.appliedRevision,
  seen_at: instantOrNull(router.seenAt),
  created_at: formatInstant(router.createdAt),
  updated_at: formatInstant(router.updatedAt),
  revision: router.revision,
});

export const presentMachine = (machine: Machine): machines.Machine => ({
  id: machine.id,
  labels: { ...machine.labels },
  enforcement: machine.enforcement,
  state: machine.state,
  intent: machine.intent,
  drain_by: instantOrNull(machine.drainBy),
  fence_s: seconds(machine.fenceUs),
  mark: machine.mark,
  next_hops: [...machine.nextHops],
  wants: machine.wants.map(({ pool, select, family, allocator, slices }, index) => ({
    ...(pool === null ? {} : { pool }),
    ...(select === null ? {} : { select }),
    ...(family === null ? {} : { family }),
    allocator,
    slices,
    missing: machine.wanting.missing[index] ?? 0,
  })),
  agent:
    machine.agent === null
      ? null
      : {
          boot_id: machine.agent.bootId,
          version: machine.agent.version,
          seen_at: formatInstant(machine.agent.seenAt),
          applied_revision: machine.agent.appliedRevision,
        },
  created_at: formatInstant(machine.createdAt),
  updated_at: formatInstant(machine.updatedAt),
  revision: machine.revision,
});

const presentLimits = ({ portsMin, portsMax, sessionsMax }: HolderLimits): machines.HolderLimits => ({
  ports_min: onlyLimited(portsMin, 0),
  ports_max: onlyLimited(portsMax, null),
  ...(sessionsMax === null ? {} : { sessions_max: sessionsMax }),
});

/** By protocol, without those whose number says that there is no limit. */
const onlyLimited = (ports: Readonly<Record<Protocol, number | null>>, none: 0 | null) =>
  Object.fromEntries(protocols.flatMap((name) => (ports[name] === none ? [] : [[name, Number(ports[name])]])));

export const presentHolder = (holder: Holder): machines.Holder => ({
  machine: holder.machine,
  name: holder.name,
  kind: holder.kind,
  uid: holder.uid,
  cgroup: holder.cgroup,
  limits: holder.limits && presentLimits(holder.limits),
  created_at: formatInstant(holder.createdAt),
  updated_at: formatInstant(holder.updatedAt),
  revision: holder.revision,
});

export const presentSlice = (slice: Slice): slices.Slice => ({
  id: `slice-${slice.id}`,
  pool: slice.pool,
  address: slice.address,
  ports: slice.ports,
  machine: slice.machine,
  state: slice.state,
  generation: slice.generation,
  allocator: slice.allocator,
  draining_since: instantOrNull(slice.drainingSince),
  drain_by: instantOrNull(slice.drainBy),
  next: slice.next && { ...slice.next },
  reclaimed: slice.reclaimed,
  assigned_at: instantOrNull(slice.assignedAt),
  reusable_at: instantOrNull(slice.reusableAt),
  route: { state: slice.route, revision: slice.routeRevision, since: formatInstant(slice.routeSince) },
  revision: slice.revision,
});

export const presentSession = (session: Session): sessions.Session => ({
  id: `session-${session.id}`,
  machine: session.machine,
  holder: session.holder,
  state: session.state,
  ending: session.ending,
  ttl_s: seconds(session.ttlUs),
  expires_at: formatInstant(session.expiresAt),
  opened_at: formatInstant(session.openedAt),
  ended_at: instantOrNull(session.endedAt),
  revision: session.revision,
});

export const presentLease = (lease: Lease): leases.Lease => ({
  id: `lease-${lease.id}`,
  token: formatToken(lease),
  session: lease.session === null ? null : `session-${lease.session}`,
  ...(lease.unit === null ? {} : { unit: lease.unit }),
  machine: lease.machine,
  holder: lease.holder,
  slice: `slice-${lease.slice}`,
  pool: lease.pool,
  address: lease.address,
  protocol: lease.protocol,
  ports: lease.ports,
  mode: lease.mode,
  binding: lease.binding,
  state: lease.state,
  ending: lease.ending,
  ...(lease.reason === null || lease.reason === '' ? {} : { reason: lease.reason }),
  ...(lease.forced ? { forced: lease.forced } : {}),
  refusal: lease.refusal,
  granted_at: formatInstant(lease.grantedAt),
  active_at: instantOrNull(lease.activeAt),
  ending_at: instantOrNull(lease.endingAt),
  reusable_at: instantOrNull(lease.reusableAt),
  ended_at: instantOrNull(lease.endedAt),
  revision: lease.revision,
});

export const presentBroker = (broker: Broker): BrokerOnWire => ({
  broker_epoch: broker.epoch,
  through: broker.through,
  as_of: formatInstant(broker.asOf),
  complete_since: formatInstant(broker.completeSince),
  reported_at: formatInstant(broker.reportedAt),
  ports: [...broker.ports],
  counters: broker.counters,
});

/** What the broker of its machine reported. */
export const presentReportedLease = (lease: ReportedLease): leases.Lease => {
  const { id, token, ...rest } = presentLease({ ...lease, unit: null, forced: false });
  return { id, token, allocator: 'machine', ...rest };
};

export const presentReportedSession = (session: ReportedSession): sessions.Session => {
  const { id, ...rest } = presentSession({ ...session, settled: true });
  return { id, allocator: 'machine', ...rest };
};

export const presentPastLease = (lease: Had): PastLease => ({
  lease: `lease-${lease.id}`,
  ...(lease.byMachine ? { allocator: 'machine' as const } : {}),
  machine: lease.machine,
  slice: `slice-${lease.slice}`,
  generation: lease.generation,
  holder: lease.holder,
  session: lease.session === null ? null : `session-${lease.session}`,
  address: lease.address,
  protocol: lease.protocol,
  ports: lease.ports,
  mode: lease.mode,
  from: formatInstant(lease.grantedAt),
  active_at: instantOrNull(lease.activeAt),
  ending_at: instantOrNull(lease.endingAt),
  ending: lease.ending,
  until: instantOrNull(lease.emptyAt),
});

export const presentToken = (token: TokenFacts): tokens.TokenInfo => ({
  id: `token-${token.id}`,
  name: token.name,
  role: token.role,
  machine: token.machine,
  holder: token.holder,
  limits: {
    requests_per_s: token.quota.requestsPerS,
    requests_burst: token.quota.requestsBurst,
    watchers_max: token.quota.watchersMax,
  },
  router: token.router,
  created_at: formatInstant(token.createdAt),
  rotated_at: instantOrNull(token.rotatedAt),
  former_secret_until: instantOrNull(token.formerUntil),
  expires_at: instantOrNull(token.expiresAt),
  revoked_at: instantOrNull(token.revokedAt),
  last_used_at: instantOrNull(token.lastUsedAt),
});

export const presentRevocation = (
  revocation: Revocation,
  machine_leases_left: number | null = null,
): revocations.Revocation => ({
  id: `revocation-${revocation.id}`,
  machine: revocation.machine,
  holder: revocation.holder,
  pools: revocation.pools && [...revocation.pools],
  prefix: revocation.prefix,
  session: revocation.session === null ? null : `session-${revocation.session}`,
  slice: revocation.slice === null ? null : `slice-${revocation.slice}`,
  lease: revocation.lease === null ? null : `lease-${revocation.lease}`,
  ending: revocation.ending,
  reason: revocation.reason,
  forced: revocation.forced,
  state: revocation.state,
  created_at: formatInstant(revocation.createdAt),
  revoke_at: formatInstant(revocation.revokeAt),
  ended_at: instantOrNull(revocation.endedAt),
  done_at: instantOrNull(revocation.doneAt),
  leases_ended: revocation.leases,
  machine_leases_left,
  revision: revocation.revision,
});

const presentBlocked = (blocked: Extent['blocked']): slices.Extent['blocked'] =>
  blocked && { since: formatInstant(blocked.since), reason: blocked.reason };

const presentUnleased = (extent: Extent): slices.Extent => ({
  protocol: extent.protocol,
  ports: extent.ports,
  state: extent.state,
  binding: null,
  leases: [],
  blocked: presentBlocked(extent.blocked),
  reusable_at: instantOrNull(extent.reusableAt),
});

/** All leases of one block: one when exclusive; several holders' when shared. The block rests when all of them do. */
function presentBlock(block: readonly [Lease, ...Lease[]], blocked: Extent['blocked']): slices.Extent {
  const [first] = block;
  const cooling = block.every((lease) => lease.state === 'cooling');
  const reusableAt = Math.max(...block.map((lease) => lease.reusableAt ?? 0));
  return {
    protocol: first.protocol,
    ports: first.ports,
    state: cooling ? 'cooling' : first.mode,
    binding: first.binding,
    leases: block.map((lease) => `lease-${lease.id}`),
    blocked: presentBlocked(blocked),
    reusable_at: cooling && reusableAt > 0 ? formatInstant(reusableAt) : null,
  };
}

/** The pieces of a slice, by protocol and port: no gap, no overlap. */
export function presentTiling({ extents, leases: live, blocked }: Tiling): slices.Extent[] {
  const blocks = new Map<string, [Lease, ...Lease[]]>();
  for (const lease of live) {
    const key = `${lease.protocol} ${lease.ports.first}`;
    const block = blocks.get(key);
    if (block) block.push(lease);
    else blocks.set(key, [lease]);
  }
  const strangers = new Map(blocked.map((block) => [`${block.protocol} ${block.ports.first}`, block.blocked]));
  const leased = [...blocks].map(([key, block]) => presentBlock(block, strangers.get(key) ?? null));
  return [...extents.map(presentUnleased), ...leased].sort(
    (a, b) => protocols.indexOf(a.protocol) - protocols.indexOf(b.protocol) || a.ports.first - b.ports.first,
  );
}

const presentDesiredPool = (pool: Pool): agent.DesiredPool => {
  const { routers: _, created_at: _made, updated_at: _changed, revision: _at, ...terms } = presentPoolTerms(pool);
  return terms;
};

export const presentDesired = (desired: DesiredState): agent.Desired => ({
  epoch: desired.epoch.id,
  revision: desired.revision,
  machine: desired.machine.id,
  state: desired.machine.state,
  fence_s: seconds(desired.machine.fenceUs),
  pools: desired.pools.map(presentDesiredPool),
  slices: desired.slices.map(presentSlice),
  holders: desired.holders.map(presentHolder),
  leases: desired.leases.map(presentLease),
  blocked: presentBlockedPorts(desired),
  revocations: desired.revocations.map((revocation) => presentRevocation(revocation)),
});

/** Those of slices that the machine has to make true; of a slice that rests it knows nothing any more. */
function presentBlockedPorts({ slices: owned, blocked }: DesiredState): agent.BlockedPorts[] {
  const generations = new Map(owned.map(({ id, generation }) => [id, generation]));
  return blocked.flatMap(({ slice, protocol, ports }) => {
    const generation = generations.get(slice);
    return generation === undefined ? [] : [{ slice: `slice-${slice}`, generation, protocol, ports }];
  });
}

/** What concerns a machine. Tokens, routers and epochs concern no machine, and are left out of its streams by the core. */
type CommonEntry = Extract<agent.Change, { kind: CommonKind }>;
type CommonKind = 'deleted' | 'holder' | 'slice' | 'session' | 'lease' | 'revocation';

/** As the agents see it, for whom less will do of pools and machines. */
export function presentChange(event: Exclude<Event, { kind: 'token' | 'router' | 'epoch' }>): agent.Change {
  const head = headOf(event);
  switch (event.kind) {
    case 'pool':
      return { kind: 'pool', ...head, pool: presentDesiredPool(event.pool) };
    case 'machine': {
      const { id, fenceUs, state } = event.subject;
      return { kind: 'machine', ...head, machine: id, fence_s: seconds(fenceUs), state };
    }
    default:
      return presentCommon(event);
  }
}

/** As readers of the whole log see it: all that is known of the one thing. */
export function presentLogEntry(event: Event): agent.LogEntry {
  const head = headOf(event);
  switch (event.kind) {
    case 'pool':
      return { kind: 'pool', ...head, pool: presentPoolTerms(event.pool) };
    case 'machine':
      return { kind: 'machine', ...head, machine: presentMachine(event.subject) };
    case 'token':
      return { kind: 'token', ...head, token: presentToken(event.token) };
    case 'router':
      return { kind: 'router', ...head, router: presentRouter(event.router) };
    case 'epoch':
      return { kind: 'epoch', ...head, epoch: presentEpoch(event.epoch) };
    default:
      return presentCommon(event);
  }
}

const headOf = ({ revision, at }: Event) => ({ revision, at: formatInstant(at) });

function presentCommon(event: Extract<Event, { kind: CommonKind }>): CommonEntry {
  const head = headOf(event);
  switch (event.kind) {
    case 'deleted':
      return { kind: 'deleted', ...head, what: event.what, id: event.id, ...placeOfDeleted(event) };
    case 'holder':
      return { kind: 'holder', ...head, holder: presentHolder(event.holder) };
    case 'slice':
      return { kind: 'slice', ...head, slice: presentSlice(event.slice) };
    case 'session':
      return { kind: 'session', ...head, session: presentSession(event.session) };
    case 'lease':
      return { kind: 'lease', ...head, lease: presentLease(event.lease) };
    case 'revocation':
      return { kind: 'revocation', ...head, revocation: presentRevocation(event.revocation) };
  }
}

/** Names of holders are their machine's; all other names are the server's. */
const placeOfDeleted = ({ what, machine }: Extract<Event, { kind: 'deleted' }>) =>
  what === 'holder' && machine !== null ? { machine } : {};

export const presentEpoch = (epoch: Epoch): epochs.Epoch => ({
  number: epoch.number,
  id: epoch.id,
  state: epoch.confirmedAt === null ? 'in_doubt' : 'confirmed',
  cause: epoch.cause,
  detail: epoch.detail,
  lost_after: epoch.after,
  first_revision: epoch.from,
  began_at: formatInstant(epoch.beganAt),
  confirmed_at: instantOrNull(epoch.confirmedAt),
  confirmed_by: epoch.confirmedBy,
});
