import { check, index, integer, primaryKey, sqliteTable, text, uniqueIndex } from 'drizzle-orm/sqlite-core';
import { sql } from 'drizzle-orm';
import { party, span } from '../history-keys.ts';

export * from './access-schema.ts';
export * from './reported-schema.ts';
import { heldWithoutSession } from '../lease-index.ts';

/**
 * The tables, as Drizzle generates migrations from them (`npm run db:generate`). Times are microseconds since 1970, which
 * SQLite's 64-bit integers and JavaScript's doubles both hold exactly. Indexes over live rows are partial, so that the
 * ended ones, kept for attribution, weigh nothing on a grant. Foreign keys are where rows are few; leases and extents have
 * none, because the transaction that writes them has just read what they would point to.
 */

export const meta = sqliteTable('meta', {
  key: text().primaryKey(),
  value: text().notNull(),
});

export const pools = sqliteTable('pools', {
  id: text().primaryKey(),
  labels: text().notNull(),
  prefixes: text().notNull(),
  carve_outs: text().notNull(),
  slice_ports: integer().notNull(),
  usable_first: integer().notNull(),
  usable_last: integer().notNull(),
  shared_block_ports: integer().notNull(),
  cooldown_tcp_us: integer().notNull(),
  cooldown_udp_us: integer().notNull(),
  cooldown_icmp_us: integer().notNull(),
  /** JSON: ids or selector, and policy. */
  routers: text().notNull(),
  /** JSON list of decimal text: a slot number of an IPv6 prefix does not fit an integer column. */
  cursors: text().notNull(),
  created_at: integer().notNull(),
  updated_at: integer().notNull(),
  revision: integer().notNull(),
});

export const machines = sqliteTable(
  'machines',
  {
    id: text().primaryKey(),
    labels: text().notNull(),
    enforcement: text().notNull(),
    state: text().notNull(),
    intent: text().notNull(),
    drain_by: integer(),
    settled: integer().notNull(),
    /** JSON lists: what it wants, and how many slices of each are missing. */
    wants: text().notNull(),
    wants_missing: text().notNull(),
    wants_look_at: integer(),
    fence_us: integer().notNull(),
    mark: integer(),
    /** JSON list of addresses. */
    next_hops: text().notNull(),
    boot_id: text(),
    agent_version: text(),
    seen_at: integer(),
    applied_revision: integer(),
    must_apply: integer(),
    /** How many of its holders have limits. */
    limited_holders: integer().notNull().default(0),
    /** How many slices it grants in itself. */
    own_slices: integer().notNull().default(0),
    created_at: integer().notNull(),
    updated_at: integer().notNull(),
    revision: integer().notNull(),
  },
  (t) => [
    index('machines_silent')
      .on(sql`seen_at + fence_us`)
      .where(sql`state IN ('active', 'cordoned', 'draining') AND enforcement = 'agent' AND seen_at IS NOT NULL`),
    index('machines_wanting')
      .on(t.wants_look_at, t.id)
      .where(sql`state = 'active' AND wants_look_at IS NOT NULL`),
    index('machines_unsettled')
      .on(t.id)
      .where(sql`settled = 0`),
  ],
);

export const holders = sqliteTable(
  'holders',
  {
    machine: text()
      .notNull()
      .references(() => machines.id),
    name: text().notNull(),
    kind: text().notNull(),
    uid: integer(),
    cgroup: text(),
    limits: text(),
    sticky_v4: text(),
    sticky_v6: text(),
    created_at: integer().notNull(),
    updated_at: integer().notNull(),
    revision: integer().notNull(),
  },
  (t) => [
    primaryKey({ columns: [t.machine, t.name] }),
    // The core sees to it that no two have the same. Not a unique index: in one batch two may exchange theirs by way of a
    // third, and the rows are written one after the other.
    index('holders_uid')
      .on(t.machine, t.uid)
      .where(sql`uid IS NOT NULL`),
    index('holders_cgroup')
      .on(t.machine)
      .where(sql`cgroup IS NOT NULL`),
    index('holders_limited')
      .on(t.machine)
      .where(sql`limits IS NOT NULL`),
  ],
);

export const slices = sqliteTable(
  'slices',
  {
    id: integer().primaryKey(),
    /** Stays when the pool is deleted: former slices are what attribution finds their tenures by. */
    pool: text().notNull(),
    pool_born_at: integer().notNull(),
    address: text().notNull(),
    /** Sorts as addresses do, so that a prefix is a range of it. */
    address_key: text().notNull(),
    family: integer().notNull(),
    first_port: integer().notNull(),
    last_port: integer().notNull(),
    machine: text().references(() => machines.id),
    state: text().notNull(),
    generation: integer().notNull(),
    allocator: text().notNull(),
    draining_since: integer(),
    drain_by: integer(),
    next_machine: text(),
    next_allocator: text(),
    reclaimed: integer().notNull(),
    assigned_at: integer(),
    reusable_at: integer(),
    route: text().notNull(),
    route_revision: integer().notNull(),
    route_since: integer().notNull(),
    revision: integer().notNull(),
  },
  (t) => [
    // A pool makes one slice in one place; a machine has a place only once, whichever pool it came from.
    uniqueIndex('slices_place').on(t.address, t.first_port, t.pool_born_at),
    uniqueIndex('slices_owned')
      .on(t.address_key, t.first_port)
      .where(sql`machine IS NOT NULL`),
    index('slices_machine').on(t.machine, t.id),
    // What a machine has to grant from: its (pool, family) pairs, each found in one step however many slices it has.
    index('slices_offers')
      .on(t.machine, t.pool, t.family)
      .where(sql`state = 'assigned' AND allocator = 'server'`),
    index('slices_machine_allocated')
      .on(t.machine, t.pool, t.family)
      .where(sql`state = 'assigned' AND allocator = 'machine'`),
    index('slices_pool').on(t.pool, t.state, t.reusable_at),
    index('slices_cooling')
      .on(t.reusable_at)
      .where(sql`state = 'cooling' AND route <> 'removing'`),
    index('slices_waiting')
      .on(t.pool, t.route, t.route_revision, t.id)
      .where(sql`route IN ('adding', 'removing')`),
    index('slices_draining')
      .on(t.pool, t.machine, t.draining_since)
      .where(sql`state = 'draining'`),
    check('slices_ports', sql`0 <= first_port AND first_port <= last_port AND last_port <= 65535`),
    check('slices_state', sql`state IN ('assigning', 'assigned', 'draining', 'cooling', 'free')`),
    check(
      'slices_route',
      sql`route IN ('none', 'adding', 'routed', 'removing') AND (route = 'none') = (state = 'free')`,
    ),
    check('slices_allocator', sql`allocator IN ('server', 'machine')`),
    check('slices_owner', sql`(machine IS NULL) = (state = 'free')`),
    check('slices_draining_since', sql`(draining_since IS NOT NULL) = (state = 'draining')`),
    check('slices_next', sql`(next_machine IS NULL) = (next_allocator IS NULL)`),
  ],
);

export const tenures = sqliteTable(
  'tenures',
  {
    slice: integer().notNull(),
    generation: integer().notNull(),
    machine: text().notNull(),
    address: text().notNull(),
    first_port: integer().notNull(),
    last_port: integer().notNull(),
    allocator: text().notNull(),
    from_at: integer().notNull(),
    until_at: integer(),
  },
  (t) => [
    primaryKey({ columns: [t.slice, t.generation] }),
    // For attribution: of the blocks that a port can be in, which one somebody owned at an instant.
    index('tenures_place').on(t.address, t.first_port, t.from_at),
    index('tenures_machine_allocated')
      .on(t.machine, t.from_at)
      .where(sql`allocator = 'machine'`),
    index('tenures_oldest')
      .on(t.until_at)
      .where(sql`until_at IS NOT NULL`),
  ],
);

export const sessions = sqliteTable(
  'sessions',
  {
    id: integer().primaryKey(),
    machine: text().notNull(),
    holder: text().notNull(),
    state: text().notNull(),
    ending: text(),
    settled: integer().notNull(),
    ttl_us: integer().notNull(),
    expires_at: integer().notNull(),
    opened_at: integer().notNull(),
    ended_at: integer(),
    revision: integer().notNull(),
  },
  (t) => [
    index('sessions_live')
      .on(t.expires_at)
      .where(sql`state = 'live'`),
    index('sessions_unsettled')
      .on(t.id)
      .where(sql`state = 'ended' AND settled = 0`),
    // Live ones, and those whose leases have not all followed.
    index('sessions_of_holder')
      .on(t.machine, t.holder, t.id)
      .where(sql`settled = 0`),
    index('sessions_machine').on(t.machine, t.id),
    index('sessions_machine_live')
      .on(t.machine, t.id)
      .where(sql`state = 'live'`),
    index('sessions_oldest')
      .on(t.ended_at)
      .where(sql`state = 'ended' AND settled = 1`),
    check('sessions_state', sql`state IN ('live', 'ended') AND (ending IS NOT NULL) = (state = 'ended')`),
  ],
);

export const leases = sqliteTable(
  'leases',
  {
    id: integer().primaryKey(),
    slice: integer().notNull(),
    generation: integer().notNull(),
    epoch: integer().notNull(),
    session: integer(),
    unit: text(),
    machine: text().notNull(),
    holder: text().notNull(),
    pool: text().notNull(),
    address: text().notNull(),
    protocol: text().notNull(),
    first_port: integer().notNull(),
    last_port: integer().notNull(),
    mode: text().notNull(),
    binding: text(),
    state: text().notNull(),
    ending: text(),
    refusal_errno: text(),
    refusal_detail: text(),
    reason: text(),
    forced: integer(),
    granted_at: integer().notNull(),
    active_at: integer(),
    ending_at: integer(),
    empty_at: integer(),
    reusable_at: integer(),
    ended_at: integer(),
    revision: integer().notNull(),
  },
  (t) => [
    // By place, and a guard at once: nobody but the members of one shared block begins where a live lease does, and no
    // holder is in a block twice. Ranges that overlap without beginning together are caught by triggers.
    uniqueIndex('leases_live')
      .on(
        t.slice,
        t.protocol,
        t.first_port,
        sql`CASE WHEN mode = 'shared' AND state <> 'cooling' THEN holder ELSE '' END`,
      )
      .where(sql`ended_at IS NULL`),
    index('leases_machine')
      .on(t.machine, t.id)
      .where(sql`ended_at IS NULL`),
    index('leases_machine_past')
      .on(t.machine, t.id)
      .where(sql`ended_at IS NOT NULL`),
    // A lease is in one of the two: a grant pays for one index, not for two.
    index('leases_settled')
      .on(t.session, t.id)
      .where(sql`state NOT IN ('pending', 'active')`),
    index('leases_unsettled')
      .on(t.session, t.id)
      .where(sql`state IN ('pending', 'active')`),
    index('leases_reserved')
      .on(t.id)
      .where(sql`session IS NULL`),
    // A grant within a session has no row there: those are found by their session.
    index('leases_of_holder').on(t.machine, t.holder, t.id).where(sql.raw(heldWithoutSession)),
    index('leases_cooling')
      .on(t.reusable_at)
      .where(sql`state = 'cooling'`),
    // Of what an agent has yet to prove empty: how much each machine has, and since when.
    index('leases_ending')
      .on(t.machine, t.ending_at)
      .where(sql`state = 'ending'`),
    index('leases_next_rest')
      .on(t.machine, t.protocol, t.reusable_at)
      .where(sql`state = 'cooling'`),
    // For attribution: the leases of one party in a block, which follow one another in time, by when they were over.
    index('leases_past')
      .on(t.slice, t.protocol, t.first_port, sql.raw(party), t.ended_at)
      .where(sql`ended_at IS NOT NULL`),
    // For the history of a holder, whose leases overlap: by how long they lasted, so that those that were there at an
    // instant are found among few that were not.
    index('leases_holder_past')
      .on(t.machine, t.holder, sql.raw(span), t.granted_at, t.ended_at)
      .where(sql`ended_at IS NOT NULL`),
    // For the end of the retention: the oldest first.
    index('leases_oldest')
      .on(t.ended_at)
      .where(sql`ended_at IS NOT NULL`),
    check('leases_ports', sql`0 <= first_port AND first_port <= last_port AND last_port <= 65535`),
    check('leases_state', sql`state IN ('pending', 'active', 'refused', 'ending', 'cooling', 'ended')`),
    check('leases_over', sql`(ended_at IS NOT NULL) = (state IN ('refused', 'ended'))`),
    check('leases_shared', sql`(binding IS NOT NULL) = (mode = 'shared') AND (mode = 'exclusive' OR protocol = 'tcp')`),
  ],
);

export const extents = sqliteTable(
  'extents',
  {
    slice: integer().notNull(),
    protocol: text().notNull(),
    first_port: integer().notNull(),
    last_port: integer().notNull(),
    machine: text().notNull(),
    pool: text().notNull(),
    family: integer().notNull(),
    state: text().notNull(),
    allocator: text().notNull(),
    offered: integer().notNull(),
    fit: integer().notNull(),
    rested_since: integer().notNull(),
    reusable_at: integer(),
    blocked_since: integer(),
    blocked_reason: text(),
  },
  (t) => [
    primaryKey({ columns: [t.slice, t.protocol, t.first_port] }),
    // In the order in which a grant chooses: its search is the first row of this index.
    index('extents_offered')
      .on(t.machine, t.protocol, t.pool, t.family, t.fit, t.rested_since, t.slice, t.first_port)
      .where(sql`offered = 1`),
    index('extents_cooling')
      .on(t.reusable_at)
      .where(sql`state = 'cooling'`),
    index('extents_next_rest')
      .on(t.machine, t.protocol, t.reusable_at)
      .where(sql`state = 'cooling'`),
    index('extents_blocked')
      .on(t.machine)
      .where(sql`state = 'blocked'`),
    check('extents_ports', sql`0 <= first_port AND first_port <= last_port AND last_port <= 65535`),
    check(
      'extents_state',
      sql`state IN ('free', 'blocked', 'cooling') AND (offered = 0 OR (state = 'free' AND allocator = 'server'))`,
    ),
  ],
);

export const sharedBlocks = sqliteTable(
  'shared_blocks',
  {
    slice: integer().notNull(),
    protocol: text().notNull(),
    first_port: integer().notNull(),
    last_port: integer().notNull(),
    machine: text().notNull(),
    pool: text().notNull(),
    family: integer().notNull(),
    binding: text().notNull(),
    members: integer().notNull(),
    offered: integer().notNull(),
    blocked_since: integer(),
    blocked_reason: text(),
  },
  (t) => [
    primaryKey({ columns: [t.slice, t.protocol, t.first_port] }),
    index('shared_blocks_offered')
      .on(t.machine, t.protocol, t.binding, t.pool, t.family, t.members, t.slice, t.first_port)
      .where(sql`offered = 1`),
    index('shared_blocks_blocked')
      .on(t.machine)
      .where(sql`blocked_since IS NOT NULL`),
    check('shared_blocks_members', sql`members > 0`),
  ],
);

export const revocations = sqliteTable(
  'revocations',
  {
    id: integer().primaryKey(),
    machine: text(),
    holder: text(),
    /** JSON list of names. */
    pools: text(),
    prefix: text(),
    session: integer(),
    slice: integer(),
    lease: integer(),
    ending: text().notNull(),
    reason: text().notNull(),
    forced: integer().notNull(),
    state: text().notNull(),
    created_at: integer().notNull(),
    revoke_at: integer().notNull(),
    ended_at: integer(),
    done_at: integer(),
    leases: integer().notNull(),
    /** JSON: the place up to which leases have followed. */
    through: text(),
    revision: integer().notNull(),
  },
  (t) => [
    index('revocations_waiting')
      .on(t.revoke_at)
      .where(sql`state = 'waiting'`),
    index('revocations_ending')
      .on(t.id)
      .where(sql`state = 'ending'`),
    index('revocations_wide')
      .on(t.id)
      .where(sql`slice IS NULL`),
    index('revocations_ended').on(t.ended_at),
    check('revocations_state', sql`state IN ('waiting', 'ending', 'done')`),
    check(
      'revocations_times',
      sql`(ended_at IS NULL) = (state = 'waiting') AND (done_at IS NOT NULL) = (state = 'done')`,
    ),
  ],
);

/** One row for each epoch that the table was in: the last is the one that it is in. */
export const epochs = sqliteTable(
  'epochs',
  {
    number: integer().primaryKey(),
    id: text().notNull(),
    cause: text().notNull(),
    detail: text().notNull(),
    after_revision: integer().notNull(),
    from_revision: integer().notNull(),
    began_at: integer().notNull(),
    confirmed_at: integer(),
    confirmed_by: text(),
    revision: integer().notNull(),
  },
  (t) => [uniqueIndex('epochs_id').on(t.id), check('epochs_from', sql`after_revision < from_revision`)],
);

export const routers = sqliteTable('routers', {
  id: text().primaryKey(),
  labels: text().notNull(),
  applied_revision: integer().notNull(),
  seen_at: integer(),
  created_at: integer().notNull(),
  updated_at: integer().notNull(),
  revision: integer().notNull(),
});

/** How many ports are in which use, kept up by each commit: whoever asks need not count millions of rows. */
export const portCounts = sqliteTable(
  'port_counts',
  {
    pool: text().notNull(),
    machine: text().notNull(),
    family: integer().notNull(),
    protocol: text().notNull(),
    state: text().notNull(),
    ports: integer().notNull(),
  },
  (t) => [primaryKey({ columns: [t.machine, t.protocol, t.pool, t.family, t.state] })],
);

/** How many ports holders have, kept up by each commit, on machines of which some holder has limits. */
export const heldPorts = sqliteTable(
  'held_ports',
  {
    machine: text().notNull(),
    holder: text().notNull(),
    protocol: text().notNull(),
    ports: integer().notNull(),
  },
  (t) => [primaryKey({ columns: [t.machine, t.holder, t.protocol] })],
);

export const events = sqliteTable(
  'events',
  {
    revision: integer().primaryKey(),
    at: integer().notNull(),
    /** Whose watchers care: null is everybody's, an empty name no machine's at all. */
    machine: text(),
    /** 1 where routes may depend on it: whoever follows them need not read past all the others. */
    steering: integer(),
    body: text().notNull(),
  },
  (t) => [
    index('events_machine').on(t.machine, t.revision),
    index('events_steering')
      .on(t.revision)
      .where(sql`steering = 1`),
  ],
);

/** One row at most: since when the history of what is over is whole. Without it nothing was ever removed. */
export const history = sqliteTable('history', {
  id: integer().primaryKey(),
  complete_since: integer().notNull(),
});
