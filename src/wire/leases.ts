import { z } from 'zod';
import { PageQuery, pageOf, queryNumber } from './lists.ts';
import {
  AddressText,
  FamilyNumber,
  Instant,
  LeaseId,
  LeaseToken,
  Name,
  Port,
  Ports,
  ProtocolName,
  Revision,
  SessionId,
  SliceId,
} from './primitives.ts';

export const leaseStates = ['pending', 'active', 'refused', 'ending', 'cooling', 'ended'] as const;
export const leaseEndings = ['released', 'expired', 'revoked', 'fenced', 'moved'] as const;

export const Claim = z
  .strictObject({
    protocol: ProtocolName,
    ports: z.int().min(1).max(65_536).optional().meta({
      description:
        'How many ports; rounded up to a power of two. Default: 1, or the block size of the pool when shared.',
    }),
    mode: z.enum(['exclusive', 'shared']).default('exclusive').meta({
      description: 'shared (tcp only): others may use the same ports toward other destinations; the kernel arbitrates.',
    }),
    binding: z.enum(['late', 'explicit']).optional().meta({
      description: 'How every user of a shared block takes a port. Only with shared; default late.',
    }),
    pool: Name.optional(),
    family: FamilyNumber.optional(),
    at: z.strictObject({ address: AddressText, first_port: Port }).optional().meta({
      description: 'This very block instead of any that fits. It must be aligned to its size.',
    }),
  })
  .meta({ id: 'Claim', description: 'What is asked of one lease.' });

export const LeaseGrant = z
  .strictObject({ session: SessionId, claims: z.array(Claim).min(1).max(256) })
  .meta({ id: 'LeaseGrant', description: 'One lease or many: all are granted, or none.' });

export const LeaseRelease = z.strictObject({ token: LeaseToken }).meta({ id: 'LeaseRelease' });
export const LeaseRevoke = z.strictObject({ reason: z.string().max(200).default('') }).meta({ id: 'LeaseRevoke' });

export const Lease = z
  .strictObject({
    id: LeaseId,
    token: LeaseToken,
    session: SessionId.nullable(),
    machine: Name,
    holder: Name,
    slice: SliceId,
    pool: Name,
    address: z.string(),
    protocol: ProtocolName,
    ports: Ports,
    mode: z.enum(['exclusive', 'shared']),
    binding: z.enum(['late', 'explicit']).nullable(),
    state: z.enum(leaseStates),
    ending: z.enum(leaseEndings).nullable(),
    reason: z.string().optional().meta({ description: 'Why an operator revoked it, where they said so.' }),
    refusal: z.strictObject({ errno: z.string(), detail: z.string() }).nullable(),
    granted_at: Instant,
    active_at: Instant.nullable(),
    ending_at: Instant.nullable(),
    reusable_at: Instant.nullable().meta({ description: 'When the rest after use is over.' }),
    ended_at: Instant.nullable(),
    revision: Revision,
  })
  .meta({ id: 'Lease' });

export const LeaseList = z.strictObject({ leases: z.array(Lease), revision: Revision }).meta({ id: 'LeaseList' });

export const GrantQuery = z.strictObject({
  wait: z.enum(['applied', 'stored']).default('applied').meta({
    description: 'applied: answer when the agent made the leases true. stored: as soon as they are durable.',
  }),
  timeout_s: queryNumber(z.number().min(0).max(60)).default(10).meta({
    description: 'How long to wait for the agent, in seconds; then the answer is 202 and the leases stay pending.',
  }),
});

export const LeaseListQuery = PageQuery.extend({
  machine: Name.optional(),
  holder: Name.optional(),
  session: SessionId.optional(),
  slice: SliceId.optional(),
  pool: Name.optional(),
  protocol: ProtocolName.optional(),
  state: z.enum(leaseStates).optional(),
});
export const LeasePage = pageOf('LeasePage', Lease);

export type Claim = z.infer<typeof Claim>;
export type LeaseGrant = z.infer<typeof LeaseGrant>;
export type LeaseRelease = z.infer<typeof LeaseRelease>;
export type LeaseRevoke = z.infer<typeof LeaseRevoke>;
export type Lease = z.infer<typeof Lease>;
export type LeaseList = z.infer<typeof LeaseList>;
export type GrantQuery = z.infer<typeof GrantQuery>;
export type LeaseListQuery = z.infer<typeof LeaseListQuery>;
