/**
 * Drops the oldest rows from before an instant. Without a turn at the log, and beside whatever is decided: an answer that a
 * decision found is given, also when it is dropped meanwhile. The newest entry of the audit log stays, because the next one
 * counts on from it.
 */
export const forgetStatements = {
  answers: `DELETE FROM kept_answers WHERE (token, key) IN (
    SELECT token, key FROM kept_answers WHERE at < @before ORDER BY at LIMIT @limit)`,
  audit: `DELETE FROM audit WHERE id IN (
    SELECT id FROM audit WHERE at < @before AND id < (SELECT max(id) FROM audit) ORDER BY at, id LIMIT @limit)`,
} as const;
