import type { Address, Family } from '../net/address.ts';
import { addressKey, familyOf } from '../net/address.ts';
import type { Prefix } from '../net/prefix.ts';
import type { Protocol } from '../net/protocol.ts';
import type {
  AccessToken,
  Allocator,
  AuditChange,
  AuditEntry,
  Epoch,
  Event,
  Extent,
  Holder,
  HolderLimits,
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
} from '../leases/model.ts';
import { isHidden, isSteering } from '../leases/model.ts';
import type * as schema from './sqlite/schema.ts';

/** Row of the database ↔ row of the domain. What the database holds was written from the domain's own types. */

type Row<T extends { readonly $inferSelect: unknown }> = T['$inferSelect'];
export type PoolRow = Row<typeof schema.pools>;
export type MachineRow = Row<typeof schema.machines>;
export type HolderRow = Row<typeof schema.holders>;
export type SliceRow = Row<typeof schema.slices>;
export type TenureRow = Row<typeof schema.tenures>;
export type SessionRow = Row<typeof schema.sessions>;
export type LeaseRow = Row<typeof schema.leases>;
export type EpochRow = Row<typeof schema.epochs>;
export type ExtentRow = Row<typeof schema.extents>;
export type SharedBlockRow = Row<typeof schema.sharedBlocks>;
export type AccessTokenRow = Row<typeof schema.accessTokens>;
export type RevocationRow = Row<typeof schema.revocations>;
export type RouterRow = Row<typeof schema.routers>;
export type AuditRow = Row<typeof schema.audit>;
export type KeptAnswerRow = Row<typeof schema.keptAnswers>;
export type EventRow = Row<typeof schema.events>;

export const poolRow = (pool: Pool): PoolRow => ({
  id: pool.id,
  labels: JSON.stringify(pool.labels),
  prefixes: JSON.stringify(pool.prefixes),
  carve_outs: JSON.stringify(pool.carveOuts),
  slice_ports: pool.slicePorts,
  usable_first: pool.usablePorts.first,
  usable_last: pool.usablePorts.last,
  shared_block_ports: pool.sharedBlockPorts,
  cooldown_tcp_us: pool.cooldownUs.tcp,
  cooldown_udp_us: pool.cooldownUs.udp,
  cooldown_icmp_us: pool.cooldownUs.icmp,
  routers: JSON.stringify(pool.routers),
  cursors: JSON.stringify(pool.cursors.map(String)),
  created_at: pool.createdAt,
  updated_at: pool.updatedAt,
  revision: pool.revision,
});

export const poolOf = (row: PoolRow): Pool => ({
  id: row.id,
  labels: JSON.parse(row.labels) as Pool['labels'],
  prefixes: JSON.parse(row.prefixes) as Prefix[],
  carveOuts: JSON.parse(row.carve_outs) as Pool['carveOuts'],
  slicePorts: row.slice_ports,
  usablePorts: { first: row.usable_first, last: row.usable_last },
  sharedBlockPorts: row.shared_block_ports,
  cooldownUs: { tcp: row.cooldown_tcp_us, udp: row.cooldown_udp_us, icmp: row.cooldown_icmp_us },
  routers: JSON.parse(row.routers) as Pool['routers'],
  cursors: (JSON.parse(row.cursors) as string[]).map(BigInt),
  createdAt: row.created_at,
  updatedAt: row.updated_at,
  revision: row.revision,
});

export const machineRow = (machine: Machine): MachineRow => ({
  id: machine.id,
  labels: JSON.stringify(machine.labels),
  enforcement: machine.enforcement,
  state: machine.state,
  intent: machine.intent,
  drain_by: machine.drainBy,
  settled: machine.settled ? 1 : 0,
  wants: JSON.stringify(machine.wants),
  wants_missing: JSON.stringify(machine.wanting.missing),
  wants_look_at: machine.wanting.lookAt,
  fence_us: machine.fenceUs,
  mark: machine.mark,
  next_hops: JSON.stringify(machine.nextHops),
  boot_id: machine.agent?.bootId ?? null,
  agent_version: machine.agent?.version ?? null,
  seen_at: machine.agent?.seenAt ?? null,
  applied_revision: machine.agent?.appliedRevision ?? null,
  must_apply: machine.agent?.mustApply ?? null,
  limited_holders: machine.limitedHolders,
  own_slices: machine.ownSlices,
  created_at: machine.createdAt,
  updated_at: machine.updatedAt,
  revision: machine.revision,
});

export const machineOf = (row: MachineRow): Machine => ({
  id: row.id,
  labels: JSON.parse(row.labels) as Machine['labels'],
  enforcement: row.enforcement as Machine['enforcement'],
  state: row.state as Machine['state'],
  intent: row.intent as Machine['intent'],
  drainBy: row.drain_by,
  settled: row.settled === 1,
  wants: JSON.parse(row.wants) as Machine['wants'],
  wanting: { lookAt: row.wants_look_at, missing: JSON.parse(row.wants_missing) as number[] },
  fenceUs: row.fence_us,
  mark: row.mark,
  nextHops: JSON.parse(row.next_hops) as Machine['nextHops'],
  limitedHolders: row.limited_holders,
  ownSlices: row.own_slices,
  agent:
    row.seen_at === null
      ? null
      : {
          bootId: row.boot_id ?? '',
          version: row.agent_version ?? '',
          seenAt: row.seen_at,
          appliedRevision: row.applied_revision ?? 0,
          mustApply: row.must_apply ?? 0,
        },
  createdAt: row.created_at,
  updatedAt: row.updated_at,
  revision: row.revision,
});

export const holderRow = (holder: Holder): HolderRow => ({
  machine: holder.machine,
  name: holder.name,
  kind: holder.kind,
  uid: holder.uid,
  cgroup: holder.cgroup,
  limits: holder.limits && JSON.stringify(holder.limits),
  sticky_v4: holder.sticky.v4,
  sticky_v6: holder.sticky.v6,
  created_at: holder.createdAt,
  updated_at: holder.updatedAt,
  revision: holder.revision,
});

export const holderOf = (row: HolderRow): Holder => ({
  machine: row.machine,
  name: row.name,
  kind: row.kind as Holder['kind'],
  uid: row.uid,
  cgroup: row.cgroup,
  limits: row.limits === null ? null : (JSON.parse(row.limits) as HolderLimits),
  sticky: { v4: row.sticky_v4 as Address | null, v6: row.sticky_v6 as Address | null },
  createdAt: row.created_at,
  updatedAt: row.updated_at,
  revision: row.revision,
});

export const sliceRow = (slice: Slice): SliceRow => ({
  id: slice.id,
  pool: slice.pool,
  pool_born_at: slice.poolBornAt,
  address: slice.address,
  address_key: addressKey(slice.address),
  family: familyOf(slice.address),
  first_port: slice.ports.first,
  last_port: slice.ports.last,
  machine: slice.machine,
  state: slice.state,
  generation: slice.generation,
  allocator: slice.allocator,
  draining_since: slice.drainingSince,
  drain_by: slice.drainBy,
  next_machine: slice.next?.machine ?? null,
  next_allocator: slice.next?.allocator ?? null,
  reclaimed: slice.reclaimed ? 1 : 0,
  assigned_at: slice.assignedAt,
  reusable_at: slice.reusableAt,
  route: slice.route,
  route_revision: slice.routeRevision,
  route_since: slice.routeSince,
  revision: slice.revision,
});

export const sliceOf = (row: SliceRow): Slice => ({
  id: row.id,
  pool: row.pool,
  poolBornAt: row.pool_born_at,
  address: row.address as Address,
  ports: { first: row.first_port, last: row.last_port },
  machine: row.machine,
  state: row.state as Slice['state'],
  generation: row.generation,
  allocator: row.allocator as Allocator,
  drainingSince: row.draining_since,
  drainBy: row.drain_by,
  next: row.next_machine === null ? null : { machine: row.next_machine, allocator: row.next_allocator as Allocator },
  reclaimed: row.reclaimed === 1,
  assignedAt: row.assigned_at,
  reusableAt: row.reusable_at,
  route: row.route as Slice['route'],
  routeRevision: row.route_revision,
  routeSince: row.route_since,
  revision: row.revision,
});

export const tenureRow = (tenure: Tenure): TenureRow => ({
  slice: tenure.slice,
  generation: tenure.generation,
  machine: tenure.machine,
  address: tenure.address,
  first_port: tenure.ports.first,
  last_port: tenure.ports.last,
  allocator: tenure.allocator,
  from_at: tenure.from,
  until_at: tenure.until,
});

export const tenureOf = (row: TenureRow): Tenure => ({
  slice: row.slice,
  generation: row.generation,
  machine: row.machine,
  address: row.address as Address,
  ports: { first: row.first_port, last: row.last_port },
  allocator: row.allocator as Allocator,
  from: row.from_at,
  until: row.until_at,
});

export const sessionRow = (session: Session): SessionRow => ({
  id: session.id,
  machine: session.machine,
  holder: session.holder,
  state: session.state,
  ending: session.ending,
  settled: session.settled ? 1 : 0,
  ttl_us: session.ttlUs,
  expires_at: session.expiresAt,
  opened_at: session.openedAt,
  ended_at: session.endedAt,
  revision: session.revision,
});

export const sessionOf = (row: SessionRow): Session => ({
  id: row.id,
  machine: row.machine,
  holder: row.holder,
  state: row.state as Session['state'],
  ending: row.ending as Session['ending'],
  settled: row.settled === 1,
  ttlUs: row.ttl_us,
  expiresAt: row.expires_at,
  openedAt: row.opened_at,
  endedAt: row.ended_at,
  revision: row.revision,
});

export const leaseRow = (lease: Lease): LeaseRow => ({
  id: lease.id,
  slice: lease.slice,
  generation: lease.generation,
  epoch: lease.epoch,
  session: lease.session,
  unit: lease.unit,
  machine: lease.machine,
  holder: lease.holder,
  pool: lease.pool,
  address: lease.address,
  protocol: lease.protocol,
  first_port: lease.ports.first,
  last_port: lease.ports.last,
  mode: lease.mode,
  binding: lease.binding,
  state: lease.state,
  ending: lease.ending,
  refusal_errno: lease.refusal?.errno ?? null,
  refusal_detail: lease.refusal?.detail ?? null,
  reason: lease.reason,
  forced: lease.forced ? 1 : null,
  granted_at: lease.grantedAt,
  active_at: lease.activeAt,
  ending_at: lease.endingAt,
  empty_at: lease.emptyAt,
  reusable_at: lease.reusableAt,
  ended_at: lease.endedAt,
  revision: lease.revision,
});

export const leaseOf = (row: LeaseRow): Lease => ({
  id: row.id,
  slice: row.slice,
  generation: row.generation,
  epoch: row.epoch,
  session: row.session,
  unit: row.unit,
  machine: row.machine,
  holder: row.holder,
  pool: row.pool,
  address: row.address as Address,
  protocol: row.protocol as Protocol,
  ports: { first: row.first_port, last: row.last_port },
  mode: row.mode as Lease['mode'],
  binding: row.binding as Lease['binding'],
  state: row.state as Lease['state'],
  ending: row.ending as Lease['ending'],
  refusal: row.refusal_errno === null ? null : { errno: row.refusal_errno, detail: row.refusal_detail ?? '' },
  reason: row.reason,
  forced: row.forced === 1,
  grantedAt: row.granted_at,
  activeAt: row.active_at,
  endingAt: row.ending_at,
  emptyAt: row.empty_at,
  reusableAt: row.reusable_at,
  endedAt: row.ended_at,
  revision: row.revision,
});

export const extentRow = (extent: Extent): ExtentRow => ({
  slice: extent.slice,
  protocol: extent.protocol,
  first_port: extent.ports.first,
  last_port: extent.ports.last,
  machine: extent.machine,
  pool: extent.pool,
  family: extent.family,
  state: extent.state,
  allocator: extent.allocator,
  offered: extent.offered ? 1 : 0,
  fit: extent.fit,
  rested_since: extent.restedSince,
  reusable_at: extent.reusableAt,
  blocked_since: extent.blocked?.since ?? null,
  blocked_reason: extent.blocked?.reason ?? null,
});

export const extentOf = (row: ExtentRow): Extent => ({
  slice: row.slice,
  protocol: row.protocol as Protocol,
  ports: { first: row.first_port, last: row.last_port },
  machine: row.machine,
  pool: row.pool,
  family: row.family as Family,
  state: row.state as Extent['state'],
  allocator: row.allocator as Allocator,
  offered: row.offered === 1,
  fit: row.fit,
  restedSince: row.rested_since,
  reusableAt: row.reusable_at,
  blocked: row.blocked_since === null ? null : { since: row.blocked_since, reason: row.blocked_reason ?? '' },
});

export const sharedBlockRow = (block: SharedBlock): SharedBlockRow => ({
  slice: block.slice,
  protocol: block.protocol,
  first_port: block.ports.first,
  last_port: block.ports.last,
  machine: block.machine,
  pool: block.pool,
  family: block.family,
  binding: block.binding,
  members: block.members,
  offered: block.offered ? 1 : 0,
  blocked_since: block.blocked?.since ?? null,
  blocked_reason: block.blocked?.reason ?? null,
});

export const sharedBlockOf = (row: SharedBlockRow): SharedBlock => ({
  slice: row.slice,
  protocol: row.protocol as Protocol,
  ports: { first: row.first_port, last: row.last_port },
  machine: row.machine,
  pool: row.pool,
  family: row.family as Family,
  binding: row.binding as SharedBlock['binding'],
  members: row.members,
  offered: row.offered === 1,
  blocked: row.blocked_since === null ? null : { since: row.blocked_since, reason: row.blocked_reason ?? '' },
});

export const revocationRow = (revocation: Revocation): RevocationRow => ({
  id: revocation.id,
  machine: revocation.machine,
  holder: revocation.holder,
  pools: revocation.pools && JSON.stringify(revocation.pools),
  prefix: revocation.prefix,
  session: revocation.session,
  slice: revocation.slice,
  lease: revocation.lease,
  ending: revocation.ending,
  reason: revocation.reason,
  forced: revocation.forced ? 1 : 0,
  state: revocation.state,
  created_at: revocation.createdAt,
  revoke_at: revocation.revokeAt,
  ended_at: revocation.endedAt,
  done_at: revocation.doneAt,
  leases: revocation.leases,
  through: revocation.through && JSON.stringify(revocation.through),
  revision: revocation.revision,
});

export const revocationOf = (row: RevocationRow): Revocation => ({
  id: row.id,
  machine: row.machine,
  holder: row.holder,
  pools: row.pools === null ? null : (JSON.parse(row.pools) as string[]),
  prefix: row.prefix as Prefix | null,
  session: row.session,
  slice: row.slice,
  lease: row.lease,
  ending: row.ending as Revocation['ending'],
  reason: row.reason,
  forced: row.forced === 1,
  state: row.state as Revocation['state'],
  createdAt: row.created_at,
  revokeAt: row.revoke_at,
  endedAt: row.ended_at,
  doneAt: row.done_at,
  leases: row.leases,
  through: row.through === null ? null : (JSON.parse(row.through) as Revocation['through']),
  revision: row.revision,
});

export const accessTokenRow = (token: AccessToken): AccessTokenRow => ({
  id: token.id,
  name: token.name,
  role: token.role,
  machine: token.machine,
  holder: token.holder,
  router: token.router,
  hash: token.hash,
  former_hash: token.formerHash,
  former_until: token.formerUntil,
  requests_per_s: token.quota.requestsPerS,
  requests_burst: token.quota.requestsBurst,
  watchers_max: token.quota.watchersMax,
  created_at: token.createdAt,
  rotated_at: token.rotatedAt,
  expires_at: token.expiresAt,
  revoked_at: token.revokedAt,
  last_used_at: token.lastUsedAt,
});

export const accessTokenOf = (row: AccessTokenRow): AccessToken => ({
  id: row.id,
  name: row.name,
  role: row.role as AccessToken['role'],
  machine: row.machine,
  holder: row.holder,
  router: row.router,
  hash: row.hash,
  formerHash: row.former_hash,
  formerUntil: row.former_until,
  quota: {
    requestsPerS: row.requests_per_s,
    requestsBurst: row.requests_burst,
    watchersMax: row.watchers_max,
  },
  createdAt: row.created_at,
  rotatedAt: row.rotated_at,
  expiresAt: row.expires_at,
  revokedAt: row.revoked_at,
  lastUsedAt: row.last_used_at,
});

export const epochRow = (epoch: Epoch): EpochRow => ({
  number: epoch.number,
  id: epoch.id,
  cause: epoch.cause,
  detail: epoch.detail,
  after_revision: epoch.after,
  from_revision: epoch.from,
  began_at: epoch.beganAt,
  confirmed_at: epoch.confirmedAt,
  confirmed_by: epoch.confirmedBy,
  revision: epoch.revision,
});

export const epochOf = (row: EpochRow): Epoch => ({
  number: row.number,
  id: row.id,
  cause: row.cause as Epoch['cause'],
  detail: row.detail,
  after: row.after_revision,
  from: row.from_revision,
  beganAt: row.began_at,
  confirmedAt: row.confirmed_at,
  confirmedBy: row.confirmed_by,
  revision: row.revision,
});

export const routerRow = (router: Router): RouterRow => ({
  id: router.id,
  labels: JSON.stringify(router.labels),
  applied_revision: router.appliedRevision,
  seen_at: router.seenAt,
  created_at: router.createdAt,
  updated_at: router.updatedAt,
  revision: router.revision,
});

export const routerOf = (row: RouterRow): Router => ({
  id: row.id,
  labels: JSON.parse(row.labels) as Router['labels'],
  appliedRevision: row.applied_revision,
  seenAt: row.seen_at,
  createdAt: row.created_at,
  updatedAt: row.updated_at,
  revision: row.revision,
});

/** Slots of an IPv6 prefix are bigint, which JSON has no form for. */
const bigintAsText = (_: string, value: unknown): unknown => (typeof value === 'bigint' ? String(value) : value);

export const auditRow = (entry: AuditEntry): AuditRow => ({
  id: entry.id,
  at: entry.at,
  token: entry.token,
  token_name: entry.tokenName,
  role: entry.role,
  request_id: entry.requestId,
  remote_address: entry.remoteAddress,
  operation: entry.operation,
  target: entry.target,
  outcome: entry.outcome,
  code: entry.code,
  revision: entry.revision,
  first_revision: entry.firstRevision,
  changes: JSON.stringify(entry.changes, bigintAsText),
  changes_omitted: entry.changesOmitted,
});

export const auditOf = (row: AuditRow): AuditEntry => ({
  id: row.id,
  at: row.at,
  token: row.token,
  tokenName: row.token_name,
  role: row.role as AuditEntry['role'],
  requestId: row.request_id,
  remoteAddress: row.remote_address,
  operation: row.operation,
  target: row.target,
  outcome: row.outcome as AuditEntry['outcome'],
  code: row.code,
  revision: row.revision,
  firstRevision: row.first_revision,
  changes: (JSON.parse(row.changes) as readonly AuditChange[]).map(changeOf),
  changesOmitted: row.changes_omitted,
});

const changeOf = (change: AuditChange): AuditChange =>
  change.kind === 'pool'
    ? {
        ...change,
        before: change.before && withCursors(change.before),
        after: change.after && withCursors(change.after),
      }
    : change;

const withCursors = (pool: Pool): Pool => ({ ...pool, cursors: pool.cursors.map(BigInt) });

export const keptAnswerRow = (kept: KeptAnswer): KeptAnswerRow => kept;
export const keptAnswerOf = (row: KeptAnswerRow): KeptAnswer => row;

/** What no machine gets to see is filed under a name that none can have. */
const nobody = '';

/** The body is the event as JSON, without what has columns of its own. */
export function eventRow(event: Event): EventRow {
  const { revision, at, machine, ...content } = event;
  // A replacer for all events would triple their cost, and only pools have bigints.
  const body = JSON.stringify(content, event.kind === 'pool' ? bigintAsText : undefined);
  return { revision, at, machine: isHidden(event) ? nobody : machine, steering: isSteering(event) ? 1 : null, body };
}

export function eventOf({ revision, at, machine, body }: EventRow): Event {
  const content = JSON.parse(body) as object;
  const event = { revision, at, machine: machine === nobody ? null : machine, ...content } as Event;
  return event.kind === 'pool' ? { ...event, pool: { ...event.pool, cursors: event.pool.cursors.map(BigInt) } } : event;
}
