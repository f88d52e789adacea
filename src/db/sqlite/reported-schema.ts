import { sql } from 'drizzle-orm';
import { check, index, integer, primaryKey, sqliteTable, text } from 'drizzle-orm/sqlite-core';
import { reportedSpan, party } from '../history-keys.ts';

/**
 * What machines report that they granted: tables of their own, so that no index of what the server grants grows by it. No
 * foreign keys: what was told stays when its machine is deleted.
 */

export const brokers = sqliteTable('brokers', {
  machine: text().primaryKey(),
  epoch: text().notNull(),
  incarnation: integer().notNull(),
  is_whole: integer().notNull(),
  after_revision: integer().notNull(),
  through_revision: integer().notNull(),
  complete_since: integer().notNull(),
  as_of: integer().notNull(),
  reported_at: integer().notNull(),
  told: integer().notNull(),
  snapshot_page: integer(),
  snapshot_through: integer(),
  lost_before: integer(),
  lost_at: integer(),
  /** JSON: ports by use; leases granted, refused and ended. */
  ports: text().notNull(),
  counters: text().notNull(),
});

export const reportedSessions = sqliteTable(
  'reported_sessions',
  {
    machine: text().notNull(),
    incarnation: integer().notNull(),
    id: integer().notNull(),
    told: integer().notNull(),
    holder: text().notNull(),
    state: text().notNull(),
    ending: text(),
    ttl_us: integer().notNull(),
    expires_at: integer().notNull(),
    opened_at: integer().notNull(),
    ended_at: integer(),
    revision: integer().notNull(),
  },
  (t) => [
    primaryKey({ columns: [t.machine, t.incarnation, t.id] }),
    index('reported_sessions_live')
      .on(t.machine, t.told)
      .where(sql`state = 'live'`),
    index('reported_sessions_oldest')
      .on(t.ended_at)
      .where(sql`ended_at IS NOT NULL`),
    check('reported_sessions_state', sql`state IN ('live', 'ended') AND (ended_at IS NOT NULL) = (state = 'ended')`),
  ],
);

export const reportedLeases = sqliteTable(
  'reported_leases',
  {
    machine: text().notNull(),
    incarnation: integer().notNull(),
    id: integer().notNull(),
    told: integer().notNull(),
    slice: integer().notNull(),
    generation: integer().notNull(),
    epoch: integer().notNull(),
    session: integer(),
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
    granted_at: integer().notNull(),
    active_at: integer(),
    ending_at: integer(),
    empty_at: integer(),
    reusable_at: integer(),
    ended_at: integer(),
    /** When it is over, rest included; null where that is not known yet. */
    over_at: integer(),
    revision: integer().notNull(),
  },
  (t) => [
    primaryKey({ columns: [t.machine, t.incarnation, t.id] }),
    // For attribution: the leases of one party in a block, which follow one another in time.
    index('reported_leases_place').on(t.slice, t.generation, t.protocol, t.first_port, sql.raw(party), t.granted_at),
    // What keeps a slice from being empty.
    index('reported_leases_occupants')
      .on(t.slice, t.generation)
      .where(sql`empty_at IS NULL AND state <> 'refused'`),
    index('reported_leases_live')
      .on(t.machine, t.granted_at, t.id)
      .where(sql`over_at IS NULL`),
    index('reported_leases_of_session')
      .on(t.machine, t.incarnation, t.session, t.id)
      .where(sql`session IS NOT NULL`),
    // For the history of a holder, by how long its leases lasted.
    index('reported_leases_holder_past')
      .on(t.machine, t.holder, sql.raw(reportedSpan), t.granted_at, t.over_at)
      .where(sql`over_at IS NOT NULL`),
    index('reported_leases_oldest')
      .on(t.over_at)
      .where(sql`over_at IS NOT NULL`),
    check('reported_leases_ports', sql`0 <= first_port AND first_port <= last_port AND last_port <= 65535`),
    check('reported_leases_state', sql`state IN ('pending', 'active', 'refused', 'ending', 'cooling', 'ended')`),
    check(
      'reported_leases_over',
      sql`(ended_at IS NOT NULL) = (state IN ('refused', 'ended')) AND (over_at IS NOT NULL) = (state IN ('refused', 'cooling', 'ended'))`,
    ),
  ],
);
