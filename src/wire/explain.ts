import { z } from 'zod';
import { fewLeases, LeaseGrant } from './leases.ts';
import { FamilyNumber, Instant, Name, Ports, ProtocolName, Revision, SessionId, SliceId } from './primitives.ts';
import { machineStates } from './machines.ts';

export const Explain = z
  .strictObject({
    session: SessionId.optional().meta({ description: 'For this session.' }),
    machine: Name.optional().meta({ description: 'Instead of a session: on this machine.' }),
    holder: Name.optional().meta({
      description:
        'For this holder of the machine. Without it: for somebody who has nothing on the machine; a holder asks for itself.',
    }),
    claims: LeaseGrant.shape.claims,
    placement: LeaseGrant.shape.placement,
  })
  .refine((question) => (question.session === undefined) !== (question.machine === undefined), {
    path: ['session'],
    message: 'either a session or a machine is required',
  })
  .refine((question) => question.holder === undefined || question.session === undefined, {
    path: ['holder'],
    message: 'a session says whose it is',
  })
  .refine(fewLeases.isKept, fewLeases.otherwise)
  .meta({ id: 'Explain', description: 'Claims as a grant takes them, to find out what would come of them.' });

const count = z.int().min(0);

const Reason = z
  .strictObject({ code: z.string(), title: z.string(), detail: z.string(), cause: z.string(), remedy: z.string() })
  .meta({ id: 'ExplanationReason' });

const ExplainedClaim = z
  .strictObject({
    granted: z.boolean().meta({
      description:
        'Whether this one could be granted, after those before it that can be. On any address: see `placement`.',
    }),
    reason: Reason.nullable().meta({ description: 'Why not.' }),
    rooms: z
      .array(
        z.strictObject({
          pool: Name,
          family: FamilyNumber,
          unsuitable: z
            .enum([
              'other_pool',
              'other_family',
              'other_address',
              'other_labels',
              'slice_too_small',
              'machine_allocates',
              'not_offered',
            ])
            .nullable()
            .meta({
              description:
                'Why nothing of it is in question. other_pool, other_family, other_labels: the claim asks for another. ' +
                'other_address: the machine has nothing of it on the address that the claim asks for. ' +
                'slice_too_small: for a block of that size. machine_allocates: the machine grants in these slices itself. ' +
                'not_offered: no slice (on the address, where the claim asks for one) is assigned and granted from by the server.',
            }),
          ports: z.strictObject({
            free: count,
            withheld: count.meta({ description: 'Free, but of slices that drain or are not confirmed yet.' }),
            machine_allocated: count.meta({
              description: 'Of slices that the machine grants in; which of them are free it alone knows.',
            }),
            exclusive: count.meta({ description: 'Leased to one holder.' }),
            shared: count.meta({ description: 'In blocks that holders share.' }),
            cooling: count.meta({ description: 'At rest after use.' }),
            blocked: count.meta({ description: 'A stranger has them.' }),
          }),
          largest_block_ports: count.meta({ description: 'The largest aligned block that is free; 0: none.' }),
        }),
      )
      .meta({ description: 'What the machine has for its protocol, by pool and family, of all addresses.' }),
    next_ports_at: Instant.nullable().meta({
      description: 'When the next ports of its protocol leave their rest; null: none rest.',
    }),
  })
  .meta({ id: 'ExplainedClaim' });

export const Explanation = z
  .strictObject({
    granted: z.boolean().meta({ description: 'Whether all claims would be granted now, as one request.' }),
    reason: Reason.nullable().meta({ description: 'Why not: the problem that the grant would be answered with.' }),
    failed_claim: count.nullable().meta({
      description:
        'Which claim that is about, counted from 0: the first that fails. null: none, or the reason is about all of them.',
    }),
    leases: z
      .array(
        z.strictObject({
          slice: SliceId,
          pool: Name,
          address: z.string(),
          protocol: ProtocolName,
          ports: Ports,
          mode: z.enum(['exclusive', 'shared']),
        }),
      )
      .meta({ description: 'What would be granted; empty when nothing would.' }),
    machine: Name,
    machine_state: z.enum(machineStates),
    holder: Name.nullable().meta({ description: 'null: for somebody who has nothing on the machine.' }),
    claims: z.array(ExplainedClaim).meta({ description: 'What is to say of each claim, in their order.' }),
    revision: Revision.meta({ description: 'The state of the table that this is true of.' }),
  })
  .meta({ id: 'Explanation' });

export type Explain = z.infer<typeof Explain>;
export type Explanation = z.infer<typeof Explanation>;
