import { all, type Read } from './statement.ts';

/**
 * What is over and goes when it has been kept long enough, in the order in which it goes: nothing that stays refers to what
 * went. Leases are over before their slice's tenure is, so tenures go when no lease of that age is left.
 */
const steps = [
  `DELETE FROM leases WHERE id IN (
     SELECT id FROM leases WHERE ended_at <= @before ORDER BY ended_at, id LIMIT @limit) RETURNING 1 AS gone`,
  `DELETE FROM sessions WHERE id IN (
     SELECT id FROM sessions WHERE state = 'ended' AND settled = 1 AND ended_at <= @before
     AND NOT EXISTS (SELECT 1 FROM leases WHERE session = sessions.id) ORDER BY ended_at, id LIMIT @limit)
   RETURNING 1 AS gone`,
  `DELETE FROM revocations WHERE id IN (
     SELECT id FROM revocations WHERE state = 'done' AND ended_at <= @before AND done_at <= @before
     ORDER BY ended_at, id LIMIT @limit) RETURNING 1 AS gone`,
  `DELETE FROM reported_leases WHERE (machine, incarnation, id) IN (
     SELECT machine, incarnation, id FROM reported_leases WHERE over_at <= @before
     ORDER BY over_at, machine, incarnation, id LIMIT @limit) RETURNING 1 AS gone`,
  // Nobody told that they ended, and the machine has not had their slice for as long.
  `DELETE FROM reported_leases WHERE (machine, incarnation, id) IN (
     SELECT reported_leases.machine, incarnation, id FROM tenures JOIN reported_leases
     ON reported_leases.slice = tenures.slice AND reported_leases.generation = tenures.generation
     WHERE until_at <= @before ORDER BY until_at, reported_leases.machine, incarnation, id LIMIT @limit)
   RETURNING 1 AS gone`,
  `DELETE FROM reported_sessions WHERE (machine, incarnation, id) IN (
     SELECT machine, incarnation, id FROM reported_sessions WHERE ended_at <= @before
     AND NOT EXISTS (SELECT 1 FROM reported_leases WHERE reported_leases.machine = reported_sessions.machine
       AND reported_leases.incarnation = reported_sessions.incarnation AND session = reported_sessions.id)
     ORDER BY ended_at, machine, incarnation, id LIMIT @limit) RETURNING 1 AS gone`,
  `DELETE FROM tenures WHERE (slice, generation) IN (
     SELECT slice, generation FROM tenures WHERE until_at <= @before ORDER BY until_at LIMIT @limit)
   RETURNING 1 AS gone`,
] as const;

/** Removes what was over by `before`, `rowsMax` rows at most. To be run in a transaction that writes. */
export function* prune(before: number, rowsMax: number): Read<Readonly<{ removed: number; more: boolean }>> {
  let removed = 0;
  for (const sql of steps) {
    if (removed < rowsMax) removed += (yield* all(sql, { before, limit: rowsMax - removed })).length;
  }
  if (removed > 0)
    yield* all(
      `INSERT INTO history (id, complete_since) VALUES (1, @before) ON CONFLICT (id) DO UPDATE
       SET complete_since = @before WHERE history.complete_since < @before RETURNING 1 AS moved`,
      { before },
    );
  return { removed, more: removed >= rowsMax };
}
