import type { Address } from '../net/address.ts';
import { ceilLog2 } from '../net/ports.ts';
import { matches } from '../net/selector.ts';
import type { Claim } from './commands.ts';
import { holderKey, type Binding, type Pool } from './model.ts';
import type { Offer, View } from './view.ts';

/** Who a grant is for. Without a session it is a reservation, which may be that of a unit. */
export type Grantee = Readonly<{ machine: string; holder: string; session: number | null; unit: string | null }>;

export const bindingOf = (claim: Claim): Binding => claim.binding ?? 'late';

/** The exponent of the block's size; undefined when a slice of this pool is too small for it. */
export function orderOf(claim: Claim, pool: Pool): number | undefined {
  const unsaid = claim.mode === 'shared' ? Math.min(pool.sharedBlockPorts, pool.slicePorts) : 1;
  const order = ceilLog2(claim.ports ?? unsaid);
  return 2 ** order <= pool.slicePorts ? order : undefined;
}

/** What the machine has that the claim names, by what can be said before the pools are known. */
export const offersNamed = (view: View, machine: string, claim: Claim): readonly Offer[] =>
  view.offersOf(machine).filter((offer) => isNamed(claim, offer));

/** What the machine has that suits the claim. Its pools must be known. */
export function offersFor(view: View, machine: string, claim: Claim): readonly Offer[] {
  const named = offersNamed(view, machine, claim);
  return claim.select === null ? named : named.filter(({ pool }) => isSelected(claim, view.pools.get(pool)));
}

export const isNamed = (claim: Claim, { pool, family }: Offer): boolean =>
  (claim.pool === null || claim.pool === pool) && (claim.family === null || claim.family === family);

export const isSelected = ({ select }: Claim, pool: Pool | undefined): boolean =>
  select === null || (pool !== undefined && matches(select, pool.labels));

/** The one address that the claim may be on, where it says so. */
export const addressOf = ({ at, address }: Claim): Address | null => at?.address ?? address;

/** The addresses that the claim would rather have than any other: at most one of each family. */
export function stickyAddresses(view: View, { machine, holder }: Grantee, claim: Claim): readonly Address[] {
  const sticky = claim.sticky ? view.holders.get(holderKey(machine, holder))?.sticky : undefined;
  return sticky ? [sticky.v4, sticky.v6].filter((address) => address !== null) : [];
}
