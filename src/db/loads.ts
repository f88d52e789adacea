import { limits } from '../leases/limits.ts';
import type { Need, NeedKind, NeedOf } from '../leases/needs.ts';
import type { View } from '../leases/view.ts';
import * as rows from './rows.ts';
import type { Connection } from './statements.ts';

type Loaders = { readonly [K in NeedKind]: (view: View, need: NeedOf<K>) => void };

/** Answers what the core asks for, each need by one or two prepared statements on an index. */
export class Loads {
  readonly #loaders: Loaders;

  constructor(connection: Connection) {
    this.#loaders = loadersOn(connection);
  }

  load(view: View, need: Need): void {
    // The table's entry under `need.need` takes exactly this need; the compiler cannot follow the correlation.
    (this.#loaders[need.need] as (view: View, need: Need) => void)(view, need);
  }
}

/** Leases whose users are not proven gone. */
const occupied = `ended_at IS NULL AND state IN ('pending', 'active', 'ending')`;

function loadersOn(connection: Connection): Loaders {
  // eslint-disable-next-line @typescript-eslint/no-unnecessary-type-parameters -- the caller says what the SQL yields
  const one = <Row>(sql: string): ((...values: unknown[]) => Row | undefined) => {
    const statement = connection.prepare<unknown[], Row>(sql);
    return (...values) => statement.get(...values);
  };
  const all = <Row>(sql: string): ((...values: unknown[]) => Row[]) => {
    const statement = connection.prepare<unknown[], Row>(sql);
    return (...values) => statement.all(...values);
  };

  const pool = one<rows.PoolRow>('SELECT * FROM pools WHERE id = ?');
  const machine = one<rows.MachineRow>('SELECT * FROM machines WHERE id = ?');
  const holder = one<rows.HolderRow>('SELECT * FROM holders WHERE machine = ? AND name = ?');
  const holderByUid = one<rows.HolderRow>('SELECT * FROM holders WHERE machine = ? AND uid = ?');
  const slice = one<rows.SliceRow>('SELECT * FROM slices WHERE id = ?');
  const tenure = one<rows.TenureRow>('SELECT * FROM tenures WHERE slice = ? AND generation = ?');
  const session = one<rows.SessionRow>('SELECT * FROM sessions WHERE id = ?');
  const lease = one<rows.LeaseRow>('SELECT * FROM leases WHERE id = ?');
  const block = one<rows.SharedBlockRow>(
    'SELECT * FROM shared_blocks WHERE slice = ? AND protocol = ? AND first_port = ?',
  );
  const accessToken = one<rows.AccessTokenRow>('SELECT * FROM access_tokens WHERE id = ?');
  const sliceBelow = one<rows.SliceRow>(
    'SELECT * FROM slices WHERE address = ? AND first_port <= ? ORDER BY first_port DESC LIMIT 1',
  );
  const pools = all<rows.PoolRow>('SELECT * FROM pools');
  // From one pair to the next in the index, instead of past every slice of the machine.
  const offered = `machine = @machine AND state = 'assigned' AND allocator = 'server'`;
  const offers = all<Pick<rows.SliceRow, 'pool'> & { family: 4 | 6 }>(
    `WITH RECURSIVE offer (pool, family) AS (
       SELECT * FROM (SELECT pool, family FROM slices WHERE ${offered} ORDER BY pool, family LIMIT 1)
       UNION ALL
       SELECT slices.pool, slices.family FROM offer JOIN slices ON slices.id = (
         SELECT id FROM slices WHERE ${offered} AND (pool, family) > (offer.pool, offer.family)
         ORDER BY pool, family LIMIT 1))
     SELECT pool, family FROM offer`,
  );
  const extentsOfSlice = all<rows.ExtentRow>('SELECT * FROM extents WHERE slice = ?');
  const blocksOfSlice = all<rows.SharedBlockRow>('SELECT * FROM shared_blocks WHERE slice = ?');
  const occupants = one<{ count: number }>(`SELECT count(*) AS count FROM leases WHERE slice = ? AND ${occupied}`);
  const membership = all<rows.LeaseRow>(
    `SELECT * FROM leases WHERE slice = ? AND protocol = ? AND first_port = ? AND holder = ? AND ${occupied}`,
  );
  // Extents are disjoint: only the last one that begins below can reach up to the ports from there.
  const extentsAround = all<rows.ExtentRow>(
    `SELECT * FROM extents WHERE slice = @slice AND protocol = @protocol AND last_port >= @first - 1
     AND first_port <= @last + 1 AND first_port >= coalesce((
       SELECT first_port FROM extents WHERE slice = @slice AND protocol = @protocol AND first_port < @first
       ORDER BY first_port DESC LIMIT 1), 0)`,
  );
  const occupant = one<rows.LeaseRow>(
    `SELECT * FROM (
       SELECT * FROM leases WHERE slice = ? AND protocol = ? AND ended_at IS NULL AND first_port <= ?
       ORDER BY first_port DESC, id LIMIT 1) WHERE last_port >= ?`,
  );
  const soonest = (table: string) =>
    `SELECT min(reusable_at) AS at FROM ${table} WHERE machine = @machine AND protocol = @protocol AND state = 'cooling'`;
  const nextRest = one<{ at: number | null }>(
    `SELECT min(at) AS at FROM (${soonest('leases')} UNION ALL ${soonest('extents')})`,
  );
  const offeredExtents = all<rows.ExtentRow>(
    `SELECT * FROM extents WHERE offered = 1 AND machine = ? AND protocol = ? AND pool = ? AND family = ? AND fit >= ?
     ORDER BY fit, rested_since, slice, first_port LIMIT ?`,
  );
  const joinableBlocks = all<rows.SharedBlockRow>(
    `SELECT * FROM (
       SELECT * FROM shared_blocks WHERE offered = 1 AND machine = @machine AND protocol = @protocol AND binding = @binding
       AND pool = @pool AND family = @family AND (@ports IS NULL OR last_port - first_port + 1 = @ports)
       ORDER BY members, slice, first_port LIMIT ${limits.shared_blocks_looked_at_max}) AS block
     WHERE NOT EXISTS (
       SELECT 1 FROM leases WHERE slice = block.slice AND protocol = block.protocol AND first_port = block.first_port
       AND holder = @holder AND ${occupied})
     LIMIT @limit`,
  );
  const returnedSlices = all<rows.SliceRow>(
    `SELECT * FROM slices WHERE pool = @pool AND state = 'free' AND (@family IS NULL OR family = @family)
     ORDER BY reusable_at, id LIMIT @limit`,
  );
  const dueSessions = all<rows.SessionRow>(
    `SELECT * FROM sessions WHERE state = 'live' AND expires_at <= ? ORDER BY expires_at, id LIMIT ?`,
  );
  const unsettledSessions = all<rows.SessionRow>(
    `SELECT * FROM sessions WHERE state = 'ended' AND settled = 0 ORDER BY id LIMIT ?`,
  );
  const unsettledLeases = all<rows.LeaseRow>(
    `SELECT * FROM leases WHERE session = ? AND state IN ('pending', 'active') ORDER BY id LIMIT ?`,
  );
  const restedLeases = all<rows.LeaseRow>(
    `SELECT * FROM leases WHERE state = 'cooling' AND reusable_at <= ? ORDER BY reusable_at, id LIMIT ?`,
  );
  const restedExtents = all<rows.ExtentRow>(
    `SELECT * FROM extents WHERE state = 'cooling' AND reusable_at <= ?
     ORDER BY reusable_at, slice, protocol, first_port LIMIT ?`,
  );
  const restedSlices = all<rows.SliceRow>(
    `SELECT * FROM slices WHERE state = 'cooling' AND reusable_at <= ?
     AND NOT EXISTS (SELECT 1 FROM leases WHERE leases.slice = slices.id AND leases.ended_at IS NULL)
     ORDER BY reusable_at, id LIMIT ?`,
  );
  const silentMachines = all<rows.MachineRow>(
    `SELECT * FROM machines WHERE state = 'active' AND enforcement = 'agent' AND seen_at IS NOT NULL
     AND fence_us <= ? AND seen_at + fence_us <= ? ORDER BY seen_at + fence_us, id LIMIT ?`,
  );

  return {
    pool: (view, need) => found(pool(need.id), (row) => view.pools.load(rows.poolOf(row))),
    machine: (view, need) => found(machine(need.id), (row) => view.machines.load(rows.machineOf(row))),
    holder: (view, need) => found(holder(need.machine, need.name), (row) => view.holders.load(rows.holderOf(row))),
    holderByUid: (view, need) =>
      found(holderByUid(need.machine, need.uid), (row) => view.holders.load(rows.holderOf(row))),
    slice: (view, need) => found(slice(need.id), (row) => view.slices.load(rows.sliceOf(row))),
    tenure: (view, need) => found(tenure(need.slice, need.generation), (row) => view.tenures.load(rows.tenureOf(row))),
    session: (view, need) => found(session(need.id), (row) => view.sessions.load(rows.sessionOf(row))),
    lease: (view, need) => found(lease(need.id), (row) => view.leases.load(rows.leaseOf(row))),
    block: (view, need) =>
      found(block(need.slice, need.protocol, need.first), (row) => view.blocks.load(rows.sharedBlockOf(row))),
    accessToken: (view, need) => found(accessToken(need.id), (row) => view.accessTokens.load(rows.accessTokenOf(row))),
    sliceAt: (view, need) =>
      found(sliceBelow(need.address, need.port), (row) => {
        if (row.last_port >= need.port) view.slices.load(rows.sliceOf(row));
      }),
    pools: (view) => pools().forEach((row) => view.pools.load(rows.poolOf(row))),
    offers: (view, { machine: id }) => view.loadOffers(id, offers({ machine: id })),
    sliceTiles: (view, need) => {
      for (const row of extentsOfSlice(need.slice)) view.extents.load(rows.extentOf(row));
      for (const row of blocksOfSlice(need.slice)) view.blocks.load(rows.sharedBlockOf(row));
    },
    occupants: (view, need) => view.loadOccupants(need.slice, occupants(need.slice)?.count ?? 0),
    membership: (view, need) => {
      for (const row of membership(need.slice, need.protocol, need.first, need.holder))
        view.leases.load(rows.leaseOf(row));
    },
    extentsAround: (view, { slice: id, protocol, ports }) => {
      for (const row of extentsAround({ slice: id, protocol, first: ports.first, last: ports.last }))
        view.extents.load(rows.extentOf(row));
    },
    occupant: (view, need) =>
      found(occupant(need.slice, need.protocol, need.ports.last, need.ports.first), (row) =>
        view.leases.load(rows.leaseOf(row)),
      ),
    nextRest: (view, { machine: id, protocol }) =>
      view.loadNextRest(id, protocol, nextRest({ machine: id, protocol })?.at ?? null),
    offeredExtents: (view, { machine: id, protocol, pool: poolId, family, order, limit }) => {
      for (const row of offeredExtents(id, protocol, poolId, family, order, limit))
        view.extents.load(rows.extentOf(row));
    },
    joinableBlocks: (view, { need: _, ...search }) => {
      for (const row of joinableBlocks(search)) view.loadJoinable(search.holder, rows.sharedBlockOf(row));
    },
    returnedSlices: (view, { pool: poolId, family, limit }) => {
      for (const row of returnedSlices({ pool: poolId, family, limit })) view.slices.load(rows.sliceOf(row));
    },
    dueSessions: (view, { before, limit }) => {
      for (const row of dueSessions(before, limit)) due(view.sessions, view.due.sessions, rows.sessionOf(row));
    },
    unsettledSessions: (view, { limit }) => {
      let room = limit;
      for (const row of unsettledSessions(limit)) {
        due(view.sessions, view.due.unsettled, rows.sessionOf(row));
        const found = room > 0 ? unsettledLeases(row.id, room) : [];
        for (const leaseRow of found) due(view.leases, view.due.unsettledLeases, rows.leaseOf(leaseRow));
        room -= found.length;
      }
    },
    restedLeases: (view, { before, limit }) => {
      for (const row of restedLeases(before, limit)) due(view.leases, view.due.leases, rows.leaseOf(row));
    },
    restedExtents: (view, { before, limit }) => {
      for (const row of restedExtents(before, limit)) due(view.extents, view.due.extents, rows.extentOf(row));
    },
    restedSlices: (view, { before, limit }) => {
      for (const row of restedSlices(before, limit)) due(view.slices, view.due.slices, rows.sliceOf(row));
    },
    silentMachines: (view, { before, fenceUsMax, limit }) => {
      for (const row of silentMachines(fenceUsMax, before, limit))
        due(view.machines, view.due.machines, rows.machineOf(row));
    },
  };
}

function found<Row>(row: Row | undefined, then: (row: Row) => void): void {
  if (row !== undefined) then(row);
}

function due<Row>(table: { load: (row: Row) => void }, list: Row[], row: Row): void {
  table.load(row);
  list.push(row);
}
