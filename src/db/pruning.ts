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
