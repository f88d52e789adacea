import { z } from 'zod';
import { labelFilters, ofOneBroker, pageOf, PageQuery } from './lists.ts';
import { AllocatorName, Instant, Name, Revision, SessionId } from './primitives.ts';

export const SessionOpen = z
  .strictObject({
    machine: Name,
    holder: Name,
    ttl_s: z.int().min(2).max(86_400).default(30),
    allocator: AllocatorName.optional().meta({
      description: 'machine: the broker of the machine opens it, for leases in slices that it grants in itself.',
    }),
  })
  .meta({ id: 'SessionOpen' });

export const sessionEndings = ['released', 'expired', 'revoked', 'fenced'] as const;

export const Session = z
  .strictObject({
    id: SessionId,
    allocator: z.literal('machine').optional().meta({
      description:
        'The broker of the machine opened it, and it has a number of that broker’s. Left out: whoever was asked.',
    }),
    machine: Name,
    holder: Name,
    state: z.enum(['live', 'ended']),
    ending: z.enum(sessionEndings).nullable(),
    ttl_s: z.int(),
    expires_at: Instant.meta({ description: 'Keep alive before this instant. It is durable before it is answered.' }),
    opened_at: Instant,
    ended_at: Instant.nullable(),
    revision: Revision,
  })
  .meta({ id: 'Session' });

export const SessionListQuery = PageQuery.extend({
  allocator: AllocatorName.default('server').meta({
    description:
      'machine: those that the broker of `machine` reported. Keepalives are not: `expires_at` is as it was then.',
  }),
  machine: Name.optional(),
  holder: Name.optional(),
  state: z.enum(['live', 'ended']).optional(),
  select_machine: labelFilters.select_machine,
}).superRefine(ofOneBroker);
export const SessionPage = pageOf('SessionPage', Session);

export type SessionOpen = z.infer<typeof SessionOpen>;
export type Session = z.infer<typeof Session>;
export type SessionListQuery = z.infer<typeof SessionListQuery>;
