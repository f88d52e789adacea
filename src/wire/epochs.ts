import { z } from 'zod';
import { Instant, Revision } from './primitives.ts';

export const epochCauses = [
  'first',
  'older_than_mark',
  'other_mark',
  'other_database',
  'log_went_back',
  'client_saw_more',
  'client_knows_other',
] as const;

/** The identity of the table for a time: what the header `fishery-epoch` of each answer says. */
export const Epoch = z
  .strictObject({
    number: z.int().min(1).meta({ description: 'What tokens of leases carry.' }),
    id: z.string().meta({ description: 'What clients present in `fishery-seen`, before a slash and their revision.' }),
    state: z.enum(['confirmed', 'in_doubt']).meta({
      description: 'in_doubt: the table may lack what was answered before, and the server is read-only.',
    }),
    cause: z.enum(epochCauses).meta({
      description:
        'Why it began. older_than_mark: the database is older than what was answered (it was restored). other_mark: ' +
        'the mark beside the database is of another one, damaged or missing. ' +
        'other_database: a failover, or a restored backup. log_went_back: commits are missing. client_saw_more, ' +
        'client_knows_other: a client has seen what this table never had.',
    }),
    detail: z.string(),
    lost_after: Revision.meta({
      description: 'Revisions above this and below `first_revision` are not of this table: their changes are lost.',
    }),
    first_revision: Revision,
    began_at: Instant,
    confirmed_at: Instant.nullable(),
    confirmed_by: z
      .string()
      .nullable()
      .meta({ description: '`machines`, or the token of who took the responsibility.' }),
  })
  .meta({ id: 'Epoch' });

export const EpochConfirm = z
  .strictObject({
    epoch: z.int().min(1).meta({ description: '`number` of the epoch that is in doubt.' }),
  })
  .meta({
    id: 'EpochConfirm',
    description: 'Whoever confirms answers for it that nobody uses a port that this table would give to another.',
  });

export type Epoch = z.infer<typeof Epoch>;
export type EpochConfirm = z.infer<typeof EpochConfirm>;
