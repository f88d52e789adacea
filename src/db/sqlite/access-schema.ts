import { check, index, integer, primaryKey, sqliteTable, text, uniqueIndex } from 'drizzle-orm/sqlite-core';
import { sql } from 'drizzle-orm';

/** Who may ask, who did what, and what was answered: see schema.ts, which this is a part of. */

export const accessTokens = sqliteTable(
  'access_tokens',
  {
    id: integer().primaryKey(),
    name: text().notNull(),
    role: text().notNull(),
    machine: text(),
    holder: text(),
    router: text(),
    hash: text().notNull(),
    former_hash: text(),
    former_until: integer(),
    requests_per_s: integer(),
    requests_burst: integer(),
    watchers_max: integer(),
    created_at: integer().notNull(),
    rotated_at: integer(),
    expires_at: integer(),
    revoked_at: integer(),
    last_used_at: integer(),
  },
  (t) => [
    uniqueIndex('access_tokens_hash').on(t.hash),
    uniqueIndex('access_tokens_former_hash')
      .on(t.former_hash)
      .where(sql`former_hash IS NOT NULL`),
    index('access_tokens_machine')
      .on(t.machine, t.id)
      .where(sql`machine IS NOT NULL AND revoked_at IS NULL`),
    index('access_tokens_router')
      .on(t.router, t.id)
      .where(sql`router IS NOT NULL AND revoked_at IS NULL`),
    check('access_tokens_former', sql`(former_hash IS NULL) = (former_until IS NULL)`),
  ],
);

/** Who did what: see `AuditEntry`. */
export const audit = sqliteTable(
  'audit',
  {
    id: integer().primaryKey(),
    at: integer().notNull(),
    token: integer(),
    token_name: text(),
    role: text(),
    request_id: text().notNull(),
    remote_address: text(),
    operation: text().notNull(),
    target: text().notNull(),
    outcome: text().notNull(),
    code: text(),
    revision: integer(),
    first_revision: integer(),
    /** JSON list. */
    changes: text().notNull(),
    changes_omitted: integer().notNull(),
  },
  (t) => [
    index('audit_at').on(t.at, t.id),
    index('audit_token').on(t.token, t.id),
    index('audit_operation').on(t.operation, t.id),
    index('audit_target').on(t.target, t.id),
    index('audit_request').on(t.request_id, t.id),
    // Which act made what came to be at some revision: the first that reached so far.
    index('audit_made')
      .on(t.revision)
      .where(sql`first_revision IS NOT NULL`),
  ],
);

/** What was answered to requests that came with an Idempotency-Key, for as long as one may come again. */
export const keptAnswers = sqliteTable(
  'kept_answers',
  {
    token: integer().notNull(),
    key: text().notNull(),
    fingerprint: text().notNull(),
    answer: text().notNull(),
    at: integer().notNull(),
  },
  (t) => [primaryKey({ columns: [t.token, t.key] }), index('kept_answers_at').on(t.at)],
);
