import { z } from 'zod';
import { familyOf } from '../net/address.ts';
import { labelFilters, ofOneBroker, pageOf, PageQuery, queryNumber } from './lists.ts';
import {
  AddressText,
  AllocatorName,
  FamilyNumber,
  Instant,
  LeaseId,
  LeaseToken,
  Name,
  Port,
  Ports,
  ProtocolName,
  Revision,
  SelectorText,
  SessionId,
  SliceId,
  Text,
} from './primitives.ts';

/** In one request, whether claimed one by one or by `count`. */
export const leases_per_grant_max = 1_024;

export const leaseStates = ['pending', 'active', 'refused', 'ending', 'cooling', 'ended'] as const;
export const leaseEndings = ['released', 'expired', 'revoked', 'fenced', 'moved'] as const;

/** One lease, as programs that hold the same leases as long as they run ask for it. */
export const ClaimOfOne = z.strictObject({
  protocol: ProtocolName,
  ports: z.int().min(1).max(65_536).optional().meta({
    description: 'How many ports; rounded up to a power of two. Default: 1, or the block size of the pool when shared.',
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
});

export const Claim = ClaimOfOne.extend({
  count: z.int().min(1).max(leases_per_grant_max).default(1).meta({
    description: 'So many leases, all alike: the same as to repeat the claim.',
  }),
  select: SelectorText.optional().meta({ description: 'Only from pools whose labels match.' }),
  sticky: z
    .boolean()
    .default(false)
    .meta({
      description:
        'On the address where the last sticky lease of this holder was granted, as long as it has room; then on another, ' +
        'which is remembered from then on. For leases of one request to be on one address, say so with `placement`.',
    }),
  address: AddressText.optional().meta({ description: 'Any block on this address of the machine, and on no other.' }),
})
  .refine((claim) => claim.at === undefined || claim.count === 1, {
    path: ['count'],
    message: 'with "at", count must be 1',
  })
  .refine((claim) => claim.at === undefined || claim.address === undefined, {
    path: ['address'],
    message: '"at" says the address already',
  })
  .superRefine(({ family, at, address }, context) => {
    const said = address ?? at?.address;
    if (family === undefined || said === undefined || familyOf(said) === family) return;
    const message = `"${said}" is no IPv${family} address`;
    context.addIssue({ code: 'custom', path: address === undefined ? ['at', 'address'] : ['address'], message });
  })
  .meta({ id: 'Claim', description: 'What is asked of one lease, or of several that are alike.' });

/** The bound on the leases of one request, for whatever takes claims as a grant does. */
export const fewLeases = {
  isKept: ({ claims }: Readonly<{ claims: readonly Readonly<{ count: number }>[] }>): boolean =>
    claims.reduce((sum, { count }) => sum + count, 0) <= leases_per_grant_max,
  otherwise: { path: ['claims'], message: `at most ${leases_per_grant_max} leases in one request` },
};

export const LeaseGrant = z
  .strictObject({
    session: SessionId.optional(),
    reservation: z
      .strictObject({
        machine: Name,
        holder: Name,
        unit: z
          .string()
          .regex(/^[\w:.@\\-]{1,250}\.[a-z]{1,12}$/)
          .optional()
          .meta({
            description:
              'The systemd unit that the leases are for: they end when the agent finds that it is not installed and does not run. ' +
              'One that only stopped keeps them.',
            examples: ['squid.service'],
          }),
      })
      .optional()
      .meta({
        description:
          'Instead of a session, for programs with a static configuration: leases that nobody keeps alive. Only for operators.',
      }),
    claims: z.array(Claim).min(1).max(256),
    placement: z
      .enum(['any', 'same_address', 'spread'])
      .default('any')
      .meta({
        description:
          'same_address: all leases of the request on one address, or none. spread: over the addresses of the machine as ' +
          'evenly as these have room.',
      }),
  })
  .refine((grant) => (grant.session === undefined) !== (grant.reservation === undefined), {
    path: ['session'],
    message: 'either a session or a reservation is required',
  })
  .refine(fewLeases.isKept, fewLeases.otherwise)
  .meta({ id: 'LeaseGrant', description: 'One lease or many: all are granted, or none.' });

export const LeaseRelease = z.strictObject({ token: LeaseToken }).meta({ id: 'LeaseRelease' });
/** In seconds; a week at most. */
export const RevocationDeadline = z.int().min(0).max(604_800);

export const LeaseRevoke = z
  .strictObject({
    deadline_s: RevocationDeadline.optional().meta({
      description:
        'How long the lease goes on as it is, in seconds. Watchers hear of it at once, as a revocation with `revoke_at`.',
    }),
    forced: z
      .literal(true)
      .optional()
      .meta({
        description:
          'At once, and without waiting: its connections are cut. Also of a lease that is ending already. A port that a ' +
          'program took by bind() stays `ending`, shut, until the program lets go of it.',
      }),
    reason: Text(200).default(''),
  })
  .refine((body) => body.deadline_s === undefined || body.forced === undefined, 'deadline_s or forced, not both')
  .meta({ id: 'LeaseRevoke' });

export const Lease = z
  .strictObject({
    id: LeaseId,
    token: LeaseToken,
    allocator: z.literal('machine').optional().meta({
      description:
        'The broker of the machine granted it, and it has a number of that broker’s. Left out: whoever was asked.',
    }),
    session: SessionId.nullable().meta({ description: 'null: a reservation, which nobody keeps alive.' }),
    unit: z.string().optional().meta({ description: 'The systemd unit that a reservation is for, and ends with.' }),
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
    forced: z.literal(true).optional().meta({ description: 'Its end waits for nobody: connections are cut.' }),
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

const leaseFilters = PageQuery.extend({
  allocator: AllocatorName.default('server').meta({
    description: 'machine: those that the broker of `machine` reported.',
  }),
  machine: Name.optional(),
  holder: Name.optional(),
  session: SessionId.optional(),
  reserved: z.literal('true').optional().meta({ description: 'Only reservations: leases without a session.' }),
  slice: SliceId.optional(),
  pool: Name.optional(),
  protocol: ProtocolName.optional(),
  mode: z.enum(['exclusive', 'shared']).optional().meta({ description: 'Only leases like this.' }),
  state: z.enum(leaseStates).optional(),
  ...labelFilters,
});
export const LeaseListQuery = leaseFilters
  .refine((query) => query.session === undefined || query.reserved === undefined, {
    path: ['reserved'],
    message: 'what has a session is no reservation',
  })
  .superRefine(ofOneBroker);
export const LeasePage = pageOf('LeasePage', Lease);

export type Claim = z.infer<typeof Claim>;
export type ClaimOfOne = z.infer<typeof ClaimOfOne>;
export type LeaseGrant = z.infer<typeof LeaseGrant>;
export type LeaseRelease = z.infer<typeof LeaseRelease>;
export type LeaseRevoke = z.infer<typeof LeaseRevoke>;
export type Lease = z.infer<typeof Lease>;
export type LeaseList = z.infer<typeof LeaseList>;
export type GrantQuery = z.infer<typeof GrantQuery>;
export type LeaseListQuery = z.infer<typeof LeaseListQuery>;
