import { z } from 'zod';
import { ClaimOfOne, type Lease } from '../../wire/leases.ts';
import type { LeaseSource } from '../leases/lease-source.ts';

/** A lease that fish holds as long as it runs, and how many more like it when its ports run short. */
export const FishClaim = ClaimOfOne.extend({
  grow: z
    .strictObject({
      ports_max: z.int().min(2).max(1_048_576).meta({ description: 'Ports of all leases of the claim together' }),
      step_ports: z.int().min(1).max(65_536).optional().meta({
        description: 'Ports of each further lease, rounded up to a power of two; default: as many as the first has',
      }),
      high_water: z.number().min(0.1).max(1).default(0.8).meta({
        description: 'More are asked for when this share of the ports is in use toward one destination',
      }),
      low_water: z.number().min(0).max(0.9).default(0.3).meta({
        description: 'One is given back when no more than this share is in use',
      }),
      hold_s: z.number().min(0).max(86_400).default(60).meta({
        description: 'for so long, in which it never was more',
      }),
      drain_s: z.number().min(0).max(86_400).default(600).meta({
        description: 'A lease gets no new flows before it is given back: until it has none, but no longer than this',
      }),
    })
    .refine(({ low_water, high_water }) => low_water < high_water, 'low_water must be below high_water')
    .optional()
    .meta({ description: 'Absent: the claim has one lease' }),
}).refine(({ ports = 1, grow }) => grow === undefined || grow.ports_max > ports, {
  path: ['grow', 'ports_max'],
  message: 'must be more than the claim has without growing',
});
export type FishClaim = z.infer<typeof FishClaim>;
export type Growth = NonNullable<FishClaim['grow']>;

/** The most ports that the claim may come to. */
export const portsOfClaim = ({ ports, grow }: FishClaim): number => grow?.ports_max ?? ports ?? 1;

/** What the server is asked for. */
export const withoutGrowth = ({ grow: _, ...claim }: FishClaim): ClaimOfOne => claim;

/** The lease that answers a claim. `grantedAt` is the revision from which on the desired state must know it. */
export type Answer = Readonly<{ lease: string; token: string; grantedAt: number; ports: number; family: 4 | 6 }>;

const portsOf = ({ ports }: Lease): number => ports.last - ports.first + 1;

export const answerOf = (lease: Lease): Answer => ({
  lease: lease.id,
  token: lease.token,
  grantedAt: lease.revision,
  ports: portsOf(lease),
  family: lease.address.includes(':') ? 6 : 4,
});

/** Whether its lease is over, or ends, or is of no use here. */
export function isLost(answer: Answer, desired: LeaseSource, isRefused: (lease: string) => boolean): boolean {
  const lease = desired.leases.get(answer.lease);
  if (!lease) return desired.revisionOf(answer.lease) >= answer.grantedAt;
  return lease.state === 'ending' || (lease.state === 'active' && isRefused(answer.lease));
}

/** Whether a lease is what a claim asks for. A claim of n ports gets a block of the next power of two. */
export function answers(lease: Lease, claim: ClaimOfOne): boolean {
  const size = portsOf(lease);
  const isSize =
    claim.ports === undefined ? claim.mode === 'shared' || size === 1 : size === 2 ** Math.ceil(Math.log2(claim.ports));
  return (
    lease.protocol === claim.protocol &&
    lease.mode === claim.mode &&
    isSize &&
    (claim.mode === 'exclusive' || lease.binding === (claim.binding ?? 'late')) &&
    (claim.pool === undefined || lease.pool === claim.pool) &&
    (claim.family === undefined || lease.address.includes(':') === (claim.family === 6)) &&
    (claim.at === undefined || (lease.address === claim.at.address && lease.ports.first === claim.at.first_port))
  );
}
