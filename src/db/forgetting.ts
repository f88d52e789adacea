/**
 * Drops the oldest answers that were kept for requests to come again. Without a turn at the log, and beside whatever is
 * decided: an answer that a decision found is given, also when it is dropped meanwhile.
 */
export const forgetStatement = `DELETE FROM kept_answers WHERE (token, key) IN (
  SELECT token, key FROM kept_answers WHERE at < @before ORDER BY at LIMIT @limit)`;
