import { familyOf } from '../net/address.ts';
import { isNamed, isSelected, orderOf } from './claims.ts';
import type { Claim } from './commands.ts';
import type { LeaseError } from './errors.ts';
import type { Allocator, Machine, Slice } from './model.ts';
import type { Need } from './needs.ts';
import type { View } from './view.ts';

/**
 * Who may grant inside the slices of a machine: the server anywhere, the machine itself only where an agent could. And what
 * a claim comes to where the machine does.
 */

export const canAllocate = ({ enforcement }: Pick<Machine, 'enforcement'>, allocator: Allocator): boolean =>
  allocator === 'server' || enforcement === 'agent';

/** One more slice that the machine grants in itself, or (-1) one less. No news to anybody: no event. */
export function countOwn(
  view: View,
  { machine: id, allocator }: Pick<Slice, 'machine' | 'allocator'>,
  step: 1 | -1,
): void {
  const machine = allocator === 'machine' ? view.machines.get(id ?? '') : undefined;
  if (machine) view.machines.put({ ...machine, ownSlices: machine.ownSlices + step });
}

/** Why this one cannot grant there; undefined when it can. */
export const noAgentFor = (
  machine: Pick<Machine, 'id' | 'enforcement'>,
  allocator: Allocator,
): LeaseError | undefined =>
  canAllocate(machine, allocator) ? undefined : { code: 'allocator_needs_agent', machine: machine.id };

/** Which slices the machine grants in itself, where it has such. It must be known. */
export const ownOfferNeeds = (view: View, machine: string): readonly Need[] =>
  (view.machines.get(machine)?.ownSlices ?? 0) > 0 ? [{ need: 'ownOffers', machine }] : [];

/** What `machineAllocates` looks at beyond these. */
export function machineAllocatedNeeds(view: View, machine: string, claim: Claim): readonly Need[] {
  const own = view.ownOffersOf(machine).filter((offer) => isNamed(claim, offer));
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
  const own = view.ownOffersOf(machine).filter((offer) => {
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
  return isThere ? { code: 'machine_allocates', machine, address, slice: null, nextAt } : undefined;
}
