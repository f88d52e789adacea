import { addressKey } from '../net/address.ts';
import { portMax } from '../net/ports.ts';
import { prefixKeys } from '../net/prefix.ts';
import { limits } from '../leases/limits.ts';
import type { Allocator } from '../leases/model.ts';
import type { HeldPorts } from '../leases/changes.ts';
import type { AuditEnd, Offer, RoomRow } from '../leases/view.ts';
import { lifecycleNeeds } from './lifecycle-needs.ts';
import {
  due,
  each,
  loadBlock,
  loadExtent,
  loadLease,
  loadSlice,
  loadToken,
  loadUnsettledLease,
  whole,
  type NeedStatements,
} from './need-statement.ts';
import { reportedNeeds } from './reported-needs.ts';
import * as rows from './rows.ts';

/** Leases whose users are not proven gone. */
const occupied = `ended_at IS NULL AND state IN ('pending', 'active', 'ending')`;

/** Slices of a machine that one of the two grants in. */
const grantedIn = (allocator: Allocator) => `machine = @machine AND state = 'assigned' AND allocator = '${allocator}'`;
const offered = grantedIn('server');
/**
 * The (pool, family) pairs of such slices: from one to the next in the index, instead of past every slice of the machine;
 * pairs compared as such would make SQLite look at all that have the same pool.
 */
const pairsIn = (some: string) => `WITH RECURSIVE offer (pool, family) AS (
         SELECT * FROM (SELECT pool, family FROM slices WHERE ${some} ORDER BY pool, family LIMIT 1) AS first_one
         UNION ALL
         SELECT slices.pool, slices.family FROM offer JOIN slices ON slices.id = coalesce(
           (SELECT id FROM slices WHERE ${some} AND pool = offer.pool AND family > offer.family
            ORDER BY family LIMIT 1),
           (SELECT id FROM slices WHERE ${some} AND pool > offer.pool ORDER BY pool, family LIMIT 1)))
       SELECT pool, family FROM offer`;
/**
 * The slices of the machine on one address, found by the address: there are as many as its ports allow. The machine is
 * compared as an expression, so that its own index, which may lead to thousands of slices, is none to choose.
 */
const onAddress = `(SELECT id FROM slices WHERE address = @address AND machine || '' = @machine) AS here`;
/** Slices whose routers have not all acknowledged how their routes stand. */
const waiting = `route IN ('adding', 'removing')`;
const soonest = (table: string): string =>
  `SELECT min(reusable_at) AS at FROM ${table} WHERE machine = @machine AND protocol = @protocol AND state = 'cooling'`;

/**
 * The answers that may be kept under many keys at once, as pairs of token and key: a batch on SQLite has one look-up per
 * request, and to begin a statement costs more than to find nothing.
 */
export const keptAnswersUnder = `SELECT kept_answers.* FROM json_each(@pairs) AS asked
  CROSS JOIN kept_answers ON token = asked.value ->> 0 AND kept_answers.key = asked.value ->> 1`;

/** Numbers among the parameters; all others are text. PostgreSQL wants to be told, also where the value is null. */
export const numberParameters: ReadonlySet<string> = new Set([
  ...['slice', 'generation', 'session', 'lease', 'token', 'port', 'first', 'last', 'uid', 'family', 'ports', 'order'],
  ...[
    'before',
    'fence_us_max',
    'limit',
    'born',
    'after_at',
    'after_id',
    'through',
    'from',
    'epoch_number',
    'now',
    'up',
    'since',
    'open_at',
    'after',
    'incarnation',
    'entry',
  ],
]);

export const needStatements: NeedStatements = {
  pool: [
    each(
      'SELECT * FROM pools WHERE id = @pool',
      ({ id }) => ({ pool: id }),
      (view, row: rows.PoolRow) => view.pools.load(rows.poolOf(row)),
    ),
  ],
  machine: [
    each(
      'SELECT * FROM machines WHERE id = @machine',
      ({ id }) => ({ machine: id }),
      (view, row: rows.MachineRow) => view.machines.load(rows.machineOf(row)),
    ),
  ],
  holder: [
    each(
      'SELECT * FROM holders WHERE machine = @machine AND name = @name',
      ({ machine, name }) => ({ machine, name }),
      (view, row: rows.HolderRow) => view.holders.load(rows.holderOf(row)),
    ),
  ],
  holderByUid: [
    each(
      'SELECT * FROM holders WHERE machine = @machine AND uid = @uid',
      ({ machine, uid }) => ({ machine, uid }),
      (view, row: rows.HolderRow) => view.holders.load(rows.holderOf(row)),
    ),
  ],
  holdersInCgroups: [
    each(
      'SELECT * FROM holders WHERE machine = @machine AND cgroup IS NOT NULL',
      ({ machine }) => ({ machine }),
      (view, row: rows.HolderRow) => view.holders.load(rows.holderOf(row)),
    ),
  ],
  slice: [each('SELECT * FROM slices WHERE id = @slice', ({ id }) => ({ slice: id }), loadSlice)],
  tenure: [
    each(
      'SELECT * FROM tenures WHERE slice = @slice AND generation = @generation',
      ({ slice, generation }) => ({ slice, generation }),
      (view, row: rows.TenureRow) => view.tenures.load(rows.tenureOf(row)),
    ),
  ],
  session: [
    each(
      'SELECT * FROM sessions WHERE id = @session',
      ({ id }) => ({ session: id }),
      (view, row: rows.SessionRow) => view.sessions.load(rows.sessionOf(row)),
    ),
  ],
  lease: [each('SELECT * FROM leases WHERE id = @lease', ({ id }) => ({ lease: id }), loadLease)],
  block: [
    each(
      'SELECT * FROM shared_blocks WHERE slice = @slice AND protocol = @protocol AND first_port = @first',
      ({ slice, protocol, first }) => ({ slice, protocol, first }),
      loadBlock,
    ),
  ],
  accessToken: [each('SELECT * FROM access_tokens WHERE id = @token', ({ id }) => ({ token: id }), loadToken)],
  epoch: [
    each(
      'SELECT * FROM epochs WHERE number = @epoch_number',
      ({ number }) => ({ epoch_number: number }),
      (view, row: rows.EpochRow) => view.epochs.load(rows.epochOf(row)),
    ),
  ],
  unheard: [
    each(
      `SELECT count(*) AS unheard FROM (
         SELECT 1 AS one FROM machines WHERE id <> @except AND state NOT IN ('lost', 'fenced')
         AND (enforcement = 'none' OR seen_at IS NULL OR seen_at < @since OR applied_revision > @after) LIMIT 1) AS found`,
      ({ except, since, after }) => ({ except, since, after }),
      (view, row: Readonly<{ unheard: number }>) => view.loadMachinesThere('unheard', row.unheard > 0),
    ),
  ],
  behind: [
    each(
      `SELECT count(*) AS behind FROM (
         SELECT 1 AS one FROM machines WHERE enforcement = 'agent' AND state <> 'lost'
         AND (seen_at IS NULL OR seen_at < @since OR applied_revision > @after)
         AND (applied_revision IS NULL OR applied_revision < @from)
         AND (CASE WHEN seen_at > @since THEN seen_at ELSE @since END) + fence_us > @open_at LIMIT 1) AS found`,
      ({ since, after, from, openAt }) => ({ since, after, from, open_at: openAt }),
      (view, row: Readonly<{ behind: number }>) => view.loadMachinesThere('behind', row.behind > 0),
    ),
  ],
  epochById: [
    each(
      'SELECT * FROM epochs WHERE id = @id',
      ({ id }) => ({ id }),
      (view, row: rows.EpochRow) => view.epochs.load(rows.epochOf(row)),
    ),
  ],
  router: [
    each(
      'SELECT * FROM routers WHERE id = @router',
      ({ id }) => ({ router: id }),
      (view, row: rows.RouterRow) => view.routers.load(rows.routerOf(row)),
    ),
  ],
  routers: [
    each(
      'SELECT * FROM routers',
      () => ({}),
      (view, row: rows.RouterRow) => view.routers.load(rows.routerOf(row)),
    ),
  ],
  waitingPools: [
    whole(
      // From one pool to the next in the index, however many slices of each wait.
      `WITH RECURSIVE waiting (pool) AS (
         SELECT * FROM (SELECT pool FROM slices WHERE ${waiting} ORDER BY pool LIMIT 1) AS first_one
         UNION ALL
         SELECT slices.pool FROM waiting JOIN slices ON slices.id = (
           SELECT id FROM slices WHERE ${waiting} AND pool > waiting.pool ORDER BY pool LIMIT 1))
       SELECT pool FROM waiting`,
      () => ({}),
      (view, found: readonly Readonly<{ pool: string }>[]) => view.loadWaitingPools(found.map(({ pool }) => pool)),
    ),
  ],
  waitingSlices: [
    each(
      `SELECT * FROM slices WHERE pool = @pool AND route = @route AND ${waiting} AND route_revision <= @through
       ORDER BY route_revision, id LIMIT @limit`,
      ({ pool, route, through, limit }) => ({ pool, route, through, limit }),
      (view, row: rows.SliceRow, { route }) =>
        due(view.slices, route === 'adding' ? view.due.routed : view.due.withdrawn, rows.sliceOf(row)),
    ),
  ],
  auditEnd: [
    whole(
      'SELECT id, at FROM audit ORDER BY id DESC LIMIT 1',
      () => ({}),
      (view, found: readonly AuditEnd[]) => view.loadAuditEnd(found[0] ?? { id: 0, at: 0 }),
    ),
  ],
  keptAnswer: [
    each(
      'SELECT * FROM kept_answers WHERE token = @token AND key = @key',
      ({ token, key }) => ({ token, key }),
      (view, row: rows.KeptAnswerRow) => view.keptAnswers.load(rows.keptAnswerOf(row)),
    ),
  ],
  sliceAt: [
    each(
      `SELECT * FROM slices WHERE address_key = @address_key AND machine IS NOT NULL AND first_port <= @port
       ORDER BY first_port DESC LIMIT 1`,
      ({ address, port }) => ({ address_key: addressKey(address), port }),
      (view, row: rows.SliceRow, { port }) => {
        if (row.last_port >= port) loadSlice(view, row);
      },
    ),
  ],
  offeredAt: [
    each(
      `SELECT * FROM slices WHERE address_key = @address_key AND machine = @machine AND state = 'assigned'
       AND allocator = @allocator ORDER BY first_port LIMIT 1`,
      ({ machine, address, allocator }) => ({ machine, address_key: addressKey(address), allocator }),
      loadSlice,
    ),
  ],
  ownedAt: [
    each(
      'SELECT * FROM slices WHERE address_key = @address_key AND machine = @machine ORDER BY first_port LIMIT 1',
      ({ machine, address }) => ({ machine, address_key: addressKey(address) }),
      loadSlice,
    ),
  ],
  madeAt: [
    each(
      `SELECT * FROM slices WHERE address = @address AND first_port <= @port AND pool_born_at = @born
       ORDER BY first_port DESC LIMIT 1`,
      ({ poolBornAt, address, port }) => ({ address, port, born: poolBornAt }),
      (view, row: rows.SliceRow, { port }) => {
        if (row.last_port >= port) loadSlice(view, row);
      },
    ),
  ],
  ownedWithin: [
    each(
      `SELECT * FROM slices WHERE machine IS NOT NULL AND address_key >= @from_key AND address_key <= @to_key
       AND first_port <= @last AND last_port >= @first ORDER BY address_key, first_port LIMIT 1`,
      ({ prefix, ports }) => {
        const keys = prefixKeys(prefix);
        return { from_key: keys.first, to_key: keys.last, ...(ports ?? { first: 0, last: portMax }) };
      },
      loadSlice,
    ),
  ],
  ownedOfPool: [
    each(
      `SELECT * FROM slices WHERE pool = @pool AND state IN ('assigning', 'assigned', 'draining', 'cooling')
       ORDER BY id LIMIT 1`,
      ({ pool }) => ({ pool }),
      loadSlice,
    ),
  ],
  pools: [
    each(
      'SELECT * FROM pools',
      () => ({}),
      (view, row: rows.PoolRow) => view.pools.load(rows.poolOf(row)),
    ),
  ],
  offers: [
    whole(
      pairsIn(offered),
      ({ machine }) => ({ machine }),
      (view, offers: readonly Offer[], { machine }) => view.loadOffers(machine, offers),
    ),
  ],
  ownOffers: [
    whole(
      pairsIn(grantedIn('machine')),
      ({ machine }) => ({ machine }),
      (view, offers: readonly Offer[], { machine }) => view.loadOwnOffers(machine, offers),
    ),
  ],
  sliceTiles: [
    each('SELECT * FROM extents WHERE slice = @slice', ({ slice }) => ({ slice }), loadExtent),
    each('SELECT * FROM shared_blocks WHERE slice = @slice', ({ slice }) => ({ slice }), loadBlock),
  ],
  occupants: [
    each(
      `SELECT count(*) AS count FROM leases WHERE slice = @slice AND ${occupied}`,
      ({ slice }) => ({ slice }),
      (view, row: Readonly<{ count: number }>, { slice }) => view.loadOccupants(slice, row.count),
    ),
  ],
  membership: [
    each(
      `SELECT * FROM leases WHERE slice = @slice AND protocol = @protocol AND first_port = @first AND holder = @holder
       AND ${occupied}`,
      ({ slice, protocol, first, holder }) => ({ slice, protocol, first, holder }),
      loadLease,
    ),
  ],
  extentsAround: [
    each(
      // Extents are disjoint: only the last one that begins below can reach up to the ports from there.
      `SELECT * FROM extents WHERE slice = @slice AND protocol = @protocol AND last_port >= @first - 1
       AND first_port <= @last + 1 AND first_port >= coalesce((
         SELECT first_port FROM extents WHERE slice = @slice AND protocol = @protocol AND first_port < @first
         ORDER BY first_port DESC LIMIT 1), 0)`,
      ({ slice, protocol, ports }) => ({ slice, protocol, ...ports }),
      loadExtent,
    ),
  ],
  occupant: [
    each(
      `SELECT * FROM (
         SELECT * FROM leases WHERE slice = @slice AND protocol = @protocol AND ended_at IS NULL AND first_port <= @last
         ORDER BY first_port DESC, id LIMIT 1) AS last_below WHERE last_port >= @first`,
      ({ slice, protocol, ports }) => ({ slice, protocol, ...ports }),
      loadLease,
    ),
  ],
  limitedHolders: [
    each(
      'SELECT * FROM holders WHERE machine = @machine AND limits IS NOT NULL',
      ({ machine }) => ({ machine }),
      (view, row: rows.HolderRow) => view.holders.load(rows.holderOf(row)),
    ),
    whole(
      `SELECT held_ports.* FROM holders JOIN held_ports
       ON held_ports.machine = holders.machine AND held_ports.holder = holders.name
       WHERE holders.machine = @machine AND holders.limits IS NOT NULL`,
      ({ machine }) => ({ machine }),
      (view, found: readonly HeldPorts[], { machine }) => view.loadHeld(machine, found),
    ),
  ],
  heldRecount: [
    whole(
      `SELECT machine, holder, protocol, CAST(sum(ports) AS bigint) AS ports FROM (
         SELECT machine, holder, protocol, last_port - first_port + 1 AS ports FROM leases
         WHERE machine = @machine AND ended_at IS NULL AND ${occupied}
         UNION ALL SELECT machine, holder, protocol, -ports FROM held_ports WHERE machine = @machine
       ) AS pieces GROUP BY machine, holder, protocol HAVING sum(ports) <> 0`,
      ({ machine }) => ({ machine }),
      (view, found: readonly HeldPorts[], { machine }) => view.loadRecount(machine, found),
    ),
  ],
  liveSessions: [
    each(
      // The later of the two is a session's deadline: what was written, and its whole time after the server's start.
      `SELECT count(*) AS count FROM sessions WHERE machine = @machine AND holder = @holder AND settled = 0
       AND state = 'live' AND (expires_at > @now OR ttl_us > @up)`,
      ({ machine, holder, now, up }) => ({ machine, holder, now, up }),
      (view, row: Readonly<{ count: number }>, { machine, holder }) =>
        view.loadLiveSessions(machine, holder, row.count),
    ),
  ],
  room: [
    whole(
      `SELECT port_counts.*, CASE state WHEN 'free' THEN (
         SELECT max(fit) FROM extents WHERE offered = 1 AND machine = port_counts.machine
         AND protocol = port_counts.protocol AND pool = port_counts.pool AND family = port_counts.family
       ) END AS fit FROM port_counts WHERE machine = @machine AND protocol = @protocol AND ports <> 0`,
      ({ machine, protocol }) => ({ machine, protocol }),
      (view, found: readonly RoomRow[], { machine, protocol }) => view.loadRoom(machine, protocol, found),
    ),
  ],
  nextRest: [
    each(
      `SELECT min(at) AS at FROM (${soonest('leases')} UNION ALL ${soonest('extents')}) AS rests`,
      ({ machine, protocol }) => ({ machine, protocol }),
      (view, row: Readonly<{ at: number | null }>, { machine, protocol }) =>
        view.loadNextRest(machine, protocol, row.at),
    ),
  ],
  offeredExtents: [
    each(
      `SELECT * FROM extents WHERE offered = 1 AND machine = @machine AND protocol = @protocol AND pool = @pool
       AND family = @family AND fit >= @order ORDER BY fit, rested_since, slice, first_port LIMIT @limit`,
      ({ need: _, ...search }) => search,
      loadExtent,
    ),
  ],
  joinableBlocks: [
    each(
      // Not sorted again outside: both databases filter the inner rows as they come, and stop at the limit.
      `SELECT * FROM (
         SELECT * FROM shared_blocks WHERE offered = 1 AND machine = @machine AND protocol = @protocol
         AND binding = @binding AND pool = @pool AND family = @family
         AND (@ports IS NULL OR last_port - first_port + 1 = @ports)
         ORDER BY members, slice, first_port LIMIT ${limits.shared_blocks_looked_at_max}) AS block
       WHERE NOT EXISTS (
         SELECT 1 FROM leases WHERE slice = block.slice AND protocol = block.protocol AND first_port = block.first_port
         AND holder = @holder AND ${occupied})
       LIMIT @limit`,
      ({ need: _, ...search }) => search,
      (view, row: rows.SharedBlockRow, { holder }) => view.loadJoinable(holder, rows.sharedBlockOf(row)),
    ),
  ],
  extentsAt: [
    each(
      `SELECT extents.* FROM ${onAddress} JOIN extents ON extents.slice = here.id AND extents.protocol = @protocol
       WHERE extents.offered = 1 AND extents.fit >= @order
       ORDER BY extents.fit, extents.rested_since, extents.slice, extents.first_port LIMIT @limit`,
      ({ need: _, ...search }) => search,
      loadExtent,
    ),
  ],
  joinableAt: [
    each(
      `SELECT block.* FROM ${onAddress} JOIN shared_blocks AS block ON block.slice = here.id AND block.protocol = @protocol
       WHERE block.offered = 1 AND block.binding = @binding
       AND (@ports IS NULL OR block.last_port - block.first_port + 1 = @ports)
       AND NOT EXISTS (
         SELECT 1 FROM leases WHERE slice = block.slice AND protocol = block.protocol AND first_port = block.first_port
         AND holder = @holder AND ${occupied})
       ORDER BY block.members, block.slice, block.first_port LIMIT @limit`,
      ({ need: _, ...search }) => search,
      (view, row: rows.SharedBlockRow, { holder }) => view.loadJoinable(holder, rows.sharedBlockOf(row)),
    ),
  ],
  roomySlices: [
    each(
      `SELECT extents.* FROM (
         SELECT id FROM slices WHERE ${offered} AND pool = @pool AND family = @family
         ORDER BY id LIMIT ${limits.slices_looked_at_max}) AS looked_at
       JOIN extents ON extents.slice = looked_at.id AND extents.protocol = @protocol AND extents.first_port = (
         SELECT first_port FROM extents AS one WHERE one.slice = looked_at.id AND one.protocol = @protocol
         AND one.offered = 1 AND one.fit >= @order ORDER BY one.fit, one.rested_since, one.first_port LIMIT 1)
       ORDER BY looked_at.id LIMIT @limit`,
      ({ need: _, ...search }) => search,
      loadExtent,
    ),
  ],
  returnedSlices: [
    each(
      `SELECT * FROM slices WHERE pool = @pool AND state = 'free' AND (reusable_at, id) > (@after_at, @after_id)
       AND pool_born_at = @born AND (@family IS NULL OR family = @family) ORDER BY reusable_at, id LIMIT @limit`,
      ({ pool, poolBornAt, family, after, limit }) => {
        const begin = { after_at: after?.reusableAt ?? -1, after_id: after?.id ?? -1 };
        return { pool, born: poolBornAt, family, ...begin, limit };
      },
      loadSlice,
    ),
  ],
  endingRevocations: [
    each(
      `SELECT * FROM revocations WHERE state = 'ending' ORDER BY id`,
      () => ({}),
      (view, row: rows.RevocationRow) => view.revocations.load(rows.revocationOf(row)),
    ),
  ],
  revokedSlices: [
    each(
      // Names have no character that LIKE takes for more than itself.
      `SELECT * FROM slices WHERE id >= @from AND machine IS NOT NULL AND (@machine IS NULL OR machine = @machine)
       AND (@slice IS NULL OR id = @slice) AND (@pools IS NULL OR @pools LIKE '%,' || pool || ',%')
       AND (@from_key IS NULL OR (address_key >= @from_key AND address_key <= @to_key)) ORDER BY id LIMIT @limit`,
      ({ machine, pools, prefix, slice, from, limit }) => {
        const keys = prefix === null ? null : prefixKeys(prefix);
        const range = { from_key: keys?.first ?? null, to_key: keys?.last ?? null };
        return { machine, slice, pools: pools && `,${pools.join(',')},`, ...range, from, limit };
      },
      (view, row: rows.SliceRow) => due(view.slices, view.walk.slices, rows.sliceOf(row)),
    ),
  ],
  leasesAlong: [
    whole(
      `SELECT * FROM leases WHERE slice = @slice AND ended_at IS NULL AND (protocol, first_port) >= (@protocol, @first)
       AND (protocol, first_port, id) > (@protocol, @first, @lease) ORDER BY protocol, first_port, id LIMIT @limit`,
      ({ slice, after, limit }) => {
        const place = { protocol: after?.protocol ?? '', first: after?.first ?? 0, lease: after?.lease ?? 0 };
        return { slice, ...place, limit };
      },
      (view, found: readonly rows.LeaseRow[], { slice }) => {
        const leases = found.map(rows.leaseOf);
        for (const lease of leases) view.leases.load(lease);
        view.walk.leases.set(slice, leases);
      },
    ),
  ],
  dueSessions: [
    each(
      `SELECT * FROM sessions WHERE state = 'live' AND expires_at <= @before ORDER BY expires_at, id LIMIT @limit`,
      ({ before, limit }) => ({ before, limit }),
      (view, row: rows.SessionRow) => due(view.sessions, view.due.sessions, rows.sessionOf(row)),
    ),
  ],
  unsettledSessions: [
    each(
      `SELECT * FROM sessions WHERE state = 'ended' AND settled = 0 ORDER BY id LIMIT @limit`,
      ({ limit }) => ({ limit }),
      (view, row: rows.SessionRow) => due(view.sessions, view.due.unsettled, rows.sessionOf(row)),
    ),
    each(
      `SELECT * FROM leases WHERE state IN ('pending', 'active') AND session IN (
         SELECT id FROM sessions WHERE state = 'ended' AND settled = 0 ORDER BY id LIMIT @limit)
       ORDER BY session, id LIMIT @limit`,
      ({ limit }) => ({ limit }),
      loadUnsettledLease,
    ),
  ],
  dueRevocations: [
    each(
      `SELECT * FROM revocations WHERE state = 'waiting' AND revoke_at <= @before ORDER BY revoke_at, id LIMIT @limit`,
      ({ before, limit }) => ({ before, limit }),
      (view, row: rows.RevocationRow) => due(view.revocations, view.due.revocations, rows.revocationOf(row)),
    ),
  ],
  restedLeases: [
    each(
      `SELECT * FROM leases WHERE state = 'cooling' AND reusable_at <= @before ORDER BY reusable_at, id LIMIT @limit`,
      ({ before, limit }) => ({ before, limit }),
      (view, row: rows.LeaseRow) => due(view.leases, view.due.leases, rows.leaseOf(row)),
    ),
  ],
  restedExtents: [
    each(
      `SELECT * FROM extents WHERE state = 'cooling' AND reusable_at <= @before
       ORDER BY reusable_at, slice, protocol, first_port LIMIT @limit`,
      ({ before, limit }) => ({ before, limit }),
      (view, row: rows.ExtentRow) => due(view.extents, view.due.extents, rows.extentOf(row)),
    ),
  ],
  restedSlices: [
    each(
      `SELECT * FROM slices WHERE state = 'cooling' AND route <> 'removing' AND reusable_at <= @before
       AND NOT EXISTS (SELECT 1 FROM leases WHERE leases.slice = slices.id AND leases.ended_at IS NULL)
       ORDER BY reusable_at, id LIMIT @limit`,
      ({ before, limit }) => ({ before, limit }),
      (view, row: rows.SliceRow) => due(view.slices, view.due.slices, rows.sliceOf(row)),
    ),
  ],
  silentMachines: [
    each(
      `SELECT * FROM machines WHERE state IN ('active', 'cordoned', 'draining') AND enforcement = 'agent' AND seen_at IS NOT NULL
       AND fence_us <= @fence_us_max AND seen_at + fence_us <= @before ORDER BY seen_at + fence_us, id LIMIT @limit`,
      ({ before, fenceUsMax, limit }) => ({ before, fence_us_max: fenceUsMax, limit }),
      (view, row: rows.MachineRow) => due(view.machines, view.due.machines, rows.machineOf(row)),
    ),
  ],
  ...lifecycleNeeds,
  ...reportedNeeds,
};
