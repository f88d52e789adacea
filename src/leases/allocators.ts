import { familyOf } from '../net/address.ts';
import { isNamed, isSelected, orderOf } from './claims.ts';
import type { Claim } from './commands.ts';
import type { LeaseError } from './errors.ts';
import type { Allocator, Machine } from './model.ts';
import type { Need } from './needs.ts';
import type { View } from './view.ts';

/**
 * Who may grant inside the slices of a machine: the server anywhere, the machine itself only where an agent could. And what
 * a claim comes to where the machine does.
 */

export const canAllocate = ({ enforcement }: Pick<Machine, 'enforcement'>, allocator: Allocator): boolean =>
  allocator === 'server' || enforcement === 'agent';

/** Why this one cannot grant there; undefined when it can. */
export const noAgentFor = (
  machine: Pick<Machine, 'id' | 'enforcement'>,
  allocator: Allocator,
): LeaseError | undefined =>
  canAllocate(machine, allocator) ? undefined : { code: 'allocator_needs_agent', machine: machine.id };

/** What `machineAllocates` looks at: nothing where the machine has no slice of its own to grant in. Its offers must be known. */
export function machineAllocatedNeeds(view: View, machine: string, claim: Claim): readonly Need[] {
  const own = view.offersOf(machine, 'machine').filter((offer) => isNamed(claim, offer));
  if (own.length === 0) return [];
  const { address } = claim;
  return [
    ...own.map(({ pool }): Need => ({ need: 'pool', id: pool })),
    ...(address === null ? [] : [{ need: 'offeredAt', machine, address, allocator: 'machine' } as const]),
  ];
}

/** Why a claim finds nothing, where the machine has slices that would serve it and grants in them itself. */
export function machineAllocates(
  view: View,
  machine: string,
  claim: Claim,
  nextAt: number | null = null,
): LeaseError | undefined {
  const own = view.offersOf(machine, 'machine').filter((offer) => {
    const pool = isNamed(claim, offer) ? view.pools.get(offer.pool) : undefined;
    return pool !== undefined && isSelected(claim, pool) && orderOf(claim, pool) !== undefined;
  });
  const { address } = claim;
  const isThere =
    address === null
      ? own.length > 0
      : [...view.slices.values()].some(
          (slice) =>
            slice.address === address &&
            slice.machine === machine &&
            slice.state === 'assigned' &&
            slice.allocator === 'machine' &&
            own.some(({ pool, family }) => pool === slice.pool && family === familyOf(address)),
        );
  return isThere ? { code: 'machine_allocates', machine, slice: null, nextAt } : undefined;
}
