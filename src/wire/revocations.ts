import { z } from 'zod';
import { RevocationDeadline } from './leases.ts';
import { PageQuery, pageOf } from './lists.ts';
import { Instant, LeaseId, Name, PrefixText, Revision, SelectorText, SessionId, SliceId, Text } from './primitives.ts';

export const RevocationId = z
  .string()
  .regex(/^revocation-[1-9][0-9]{0,15}$/)
  .meta({ examples: ['revocation-42'] });

export const RevocationCreate = z
  .strictObject({
    machine: Name.optional(),
    holder: Name.optional(),
    pool: Name.optional(),
    select: SelectorText.optional().meta({
      description: 'Leases in the pools with labels like that, as they are now.',
    }),
    prefix: PrefixText.optional().meta({ description: 'Leases on addresses within it.' }),
    session: SessionId.optional(),
    lease: LeaseId.optional().meta({ description: 'That one lease.' }),
    deadline_s: RevocationDeadline.optional().meta({
      description: 'How long the leases go on as they are, in seconds. Watchers hear of it at once, with `revoke_at`.',
    }),
    forced: z
      .literal(true)
      .optional()
      .meta({
        description:
          'At once, and without waiting: connections are cut, also those of leases that are ending already. With ' +
          '`deadline_s` 0 instead, they end at once and drain.',
      }),
    reason: Text(200).default(''),
  })
  .refine(
    ({ machine, holder, pool, select, prefix, session, lease }) =>
      [machine, holder, pool, select, prefix, session, lease].some((one) => one !== undefined),
    'say which leases: by machine, holder, pool, select, prefix, session or lease',
  )
  .refine((body) => (body.deadline_s === undefined) !== (body.forced === undefined), 'either deadline_s or forced')
  .meta({ id: 'RevocationCreate', description: 'Every lease that all of what is given holds of.' });

export const Revocation = z
  .strictObject({
    id: RevocationId,
    machine: Name.nullable(),
    holder: Name.nullable(),
    pools: z.array(Name).nullable(),
    prefix: z.string().nullable(),
    session: SessionId.nullable(),
    slice: SliceId.nullable().meta({ description: 'Of a slice that is drained, moved or reclaimed, or of the lease.' }),
    lease: LeaseId.nullable(),
    ending: z.enum(['revoked', 'moved', 'fenced']),
    reason: z.string(),
    forced: z.boolean().meta({ description: 'Connections are cut.' }),
    state: z.enum(['waiting', 'ending', 'done']).meta({
      description:
        'waiting: for revoke_at. ending: in effect; every lease that it covers reads as `ending` or later. done: each of them has been gone through.',
    }),
    created_at: Instant,
    revoke_at: Instant,
    ended_at: Instant.nullable().meta({ description: 'When it came into effect.' }),
    done_at: Instant.nullable(),
    leases_ended: z.int().meta({ description: 'How many leases of the server have been gone through so far.' }),
    machine_leases_left: z
      .int()
      .nullable()
      .meta({
        description:
          'How many leases that machines granted themselves, and that it covers, have users still, by what the machines ' +
          'reported last. null where it was not counted: in lists and events.',
      }),
    revision: Revision,
  })
  .meta({ id: 'Revocation', description: 'Ends the leases that it covers and that were granted before it.' });

export const RevocationPage = pageOf('RevocationPage', Revocation);
export const RevocationListQuery = PageQuery.extend({ state: z.enum(['waiting', 'ending', 'done']).optional() });

export type RevocationCreate = z.infer<typeof RevocationCreate>;
export type Revocation = z.infer<typeof Revocation>;
export type RevocationListQuery = z.infer<typeof RevocationListQuery>;
