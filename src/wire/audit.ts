import { z } from 'zod';
import { PageQuery, pageOf } from './lists.ts';
import { Instant, Name, Revision, TokenId } from './primitives.ts';
import { roles } from './tokens.ts';

export const auditOutcomes = ['done', 'replayed', 'refused', 'denied'] as const;

const OperationName = z
  .string()
  .regex(/^[A-Za-z]{1,64}$/)
  .meta({ description: 'The `operationId` of this document.', examples: ['createPool'] });
const Target = z
  .string()
  .regex(/^[!-~]{1,300}$/)
  .meta({ description: 'What it was about, as paths name it.', examples: ['pools/eu', 'slices/slice-12'] });

export const AuditChange = z
  .strictObject({
    item: Target,
    fields: z.record(z.string(), z.strictObject({ before: z.unknown(), after: z.unknown() })).meta({
      description: 'Before: null where it did not exist. After: null where it was removed.',
    }),
  })
  .meta({ id: 'AuditChange' });

export const AuditEntry = z
  .strictObject({
    id: z.string().regex(/^audit-[1-9][0-9]{0,15}$/),
    at: Instant,
    actor: z
      .strictObject({ token: TokenId, name: Name, role: z.enum(roles) })
      .nullable()
      .meta({ description: 'null: nobody who is known here.' }),
    request_id: z.string(),
    remote_address: z.string().nullable(),
    operation: OperationName,
    target: Target,
    outcome: z.enum(auditOutcomes).meta({
      description:
        'replayed: it came again under its Idempotency-Key and was answered again. refused: it changed nothing. ' +
        'denied: whoever asked may not.',
    }),
    code: z.string().nullable().meta({ description: 'The code of the problem, when refused or denied.' }),
    revision: Revision.nullable().meta({ description: 'How far the log was with it; null when it changed nothing.' }),
    first_revision: Revision.nullable().meta({
      description: 'From here to `revision` all of the log came of it; null when nothing did.',
    }),
    changes: z.array(AuditChange),
    changes_omitted: z.int().meta({ description: 'How many more things changed than `changes` shows.' }),
  })
  .meta({ id: 'AuditEntry' });
export const AuditPage = pageOf('AuditPage', AuditEntry);

export const AuditQuery = PageQuery.extend({
  actor: TokenId.optional().meta({ description: 'Only what was done with this token.' }),
  role: z.enum(roles).optional().meta({ description: 'Only what was done with tokens of this role.' }),
  operation: OperationName.optional(),
  target: Target.optional().meta({
    description:
      'What it was about, as paths name it, or an identifier alone; of that also the act by which it came to be, with others ' +
      'or alone: `lease-42` finds who granted it, where that is in the audit log.',
    examples: ['pools/eu', 'lease-42'],
  }),
  request_id: z.string().min(1).max(200).optional().meta({
    description: 'Only what was asked for by this request, as its answer names it (`x-request-id`).',
  }),
  outcome: z.enum(auditOutcomes).optional().meta({ description: 'Only what came to this.' }),
  since: z.iso.datetime({ offset: true }).optional().meta({ description: 'From this instant on.' }),
  until: z.iso.datetime({ offset: true }).optional().meta({ description: 'Before this instant.' }),
});

export type AuditChange = z.infer<typeof AuditChange>;
export type AuditEntry = z.infer<typeof AuditEntry>;
export type AuditQuery = z.input<typeof AuditQuery>;
