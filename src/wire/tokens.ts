import { z } from 'zod';
import { pageOf, PageQuery } from './lists.ts';
import { Instant, Name, TokenId } from './primitives.ts';

export const roles = ['operator', 'viewer', 'agent', 'holder', 'router'] as const;
export type Role = (typeof roles)[number];

/** A hundred years: a token that shall never expire says so by having no expiry. */
const ttl_s_max = 3_155_760_000;
const Moment = z.iso.datetime({ offset: true });
const expiry = {
  ttl_s: z.int().min(1).max(ttl_s_max).optional().meta({ description: 'Seconds from now until the token expires.' }),
  expires_at: Moment.optional().meta({ description: 'When the token expires, instead of `ttl_s`. RFC 3339.' }),
};
const oneExpiry = (t: { ttl_s?: unknown; expires_at?: unknown }): boolean =>
  t.ttl_s === undefined || t.expires_at === undefined;
const oneExpiryMessage = 'ttl_s and expires_at both say when the token expires: give one of them';

export const TokenLimits = z
  .strictObject({
    requests_per_s: z.int().min(1).max(1_000_000).nullable().default(null).meta({
      description: 'Requests a second in the long run, counted by each server. Null: as the server is set.',
    }),
    requests_burst: z.int().min(1).max(1_000_000).nullable().default(null).meta({
      description: 'Requests that may come at once after a while without any. Null: as many as in two seconds.',
    }),
    watchers_max: z.int().min(0).max(1_000_000).nullable().default(null).meta({
      description: 'Event streams at once, counted by each server. Null: as the server is set.',
    }),
  })
  .meta({ id: 'TokenLimits', description: 'How much one token may ask for.' });

export const TokenCreate = z
  .strictObject({
    name: Name,
    role: z.enum(roles),
    machine: Name.optional(),
    holder: Name.optional(),
    router: Name.optional(),
    ...expiry,
    limits: TokenLimits.optional(),
  })
  .refine(
    (t) => (t.role === 'agent' || t.role === 'holder') === (t.machine !== undefined),
    'machine goes with agent and holder tokens, and only with them',
  )
  .refine(
    (t) => (t.role === 'holder') === (t.holder !== undefined),
    'holder goes with holder tokens, and only with them',
  )
  .refine(
    (t) => (t.role === 'router') === (t.router !== undefined),
    'router goes with router tokens, and only with them',
  )
  .refine(oneExpiry, oneExpiryMessage)
  .meta({ id: 'TokenCreate' });

export const TokenUpdate = z
  .strictObject({
    name: Name.optional(),
    ttl_s: expiry.ttl_s,
    expires_at: Moment.nullable().optional().meta({ description: 'When the token expires; null: never. RFC 3339.' }),
    limits: TokenLimits.optional(),
  })
  .refine(oneExpiry, oneExpiryMessage)
  .meta({ id: 'TokenUpdate', description: 'What is left out stays as it is; `limits` are replaced as a whole.' });

export const TokenRotate = z
  .strictObject({
    grace_s: z.int().min(0).max(2_592_000).default(3_600).meta({
      description: 'For so long the secret before this one is accepted too. 0: it is refused at once.',
    }),
    ...expiry,
  })
  .refine(oneExpiry, oneExpiryMessage)
  .meta({ id: 'TokenRotate', description: 'Without `ttl_s` and `expires_at` the expiry stays as it is.' });

export const TokenListQuery = PageQuery.extend({
  role: z.enum(roles).optional(),
  machine: Name.optional(),
  holder: Name.optional(),
  router: Name.optional(),
});

export const TokenInfo = z
  .strictObject({
    id: TokenId,
    name: Name,
    role: z.enum(roles),
    machine: Name.nullable(),
    holder: Name.nullable(),
    router: Name.nullable(),
    limits: TokenLimits,
    created_at: Instant,
    rotated_at: Instant.nullable().meta({ description: 'When its secret was last replaced.' }),
    former_secret_until: Instant.nullable().meta({
      description: 'Until then the secret before the last rotation is accepted too.',
    }),
    expires_at: Instant.nullable(),
    revoked_at: Instant.nullable(),
    last_used_at: Instant.nullable().meta({
      description: 'Noted about once a minute, so it may be that much behind; null: never used.',
    }),
  })
  .meta({ id: 'Token' });
export const TokenPage = pageOf('TokenPage', TokenInfo);
export const TokenCreated = z
  .strictObject({ token: TokenInfo, secret: z.string().meta({ description: 'Shown once; only its hash is stored.' }) })
  .meta({ id: 'TokenCreated' });

export type TokenCreate = z.input<typeof TokenCreate>;
export type TokenUpdate = z.input<typeof TokenUpdate>;
export type TokenRotate = z.input<typeof TokenRotate>;
export type TokenListQuery = z.input<typeof TokenListQuery>;
export type TokenInfo = z.infer<typeof TokenInfo>;
export type TokenCreated = z.infer<typeof TokenCreated>;
