import { z } from 'zod';
import { pageOf } from './lists.ts';
import { Instant, Name, TokenId } from './primitives.ts';

export const roles = ['operator', 'viewer', 'agent', 'holder', 'router'] as const;
export type Role = (typeof roles)[number];

export const TokenCreate = z
  .strictObject({
    name: Name,
    role: z.enum(roles),
    machine: Name.optional(),
    holder: Name.optional(),
  })
  .refine(
    (t) => (t.role === 'agent' || t.role === 'holder') === (t.machine !== undefined),
    'machine goes with agent and holder tokens, and only with them',
  )
  .refine(
    (t) => (t.role === 'holder') === (t.holder !== undefined),
    'holder goes with holder tokens, and only with them',
  )
  .meta({ id: 'TokenCreate' });

export const TokenInfo = z
  .strictObject({
    id: TokenId,
    name: Name,
    role: z.enum(roles),
    machine: Name.nullable(),
    holder: Name.nullable(),
    created_at: Instant,
    revoked_at: Instant.nullable(),
  })
  .meta({ id: 'Token' });
export const TokenPage = pageOf('TokenPage', TokenInfo);
export const TokenCreated = z
  .strictObject({ token: TokenInfo, secret: z.string().meta({ description: 'Shown once; only its hash is stored.' }) })
  .meta({ id: 'TokenCreated' });

export type TokenCreate = z.infer<typeof TokenCreate>;
export type TokenInfo = z.infer<typeof TokenInfo>;
export type TokenCreated = z.infer<typeof TokenCreated>;
