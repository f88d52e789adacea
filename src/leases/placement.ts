import type { Address } from '../net/address.ts';
import { err, ok, type Result } from '../net/result.ts';
import { comesBefore } from './allocator.ts';
import { addressOf, offersFor, orderOf, stickyAddresses, type Grantee } from './claims.ts';
import type { Claim, Placement } from './commands.ts';
import type { LeaseError } from './errors.ts';
import { isOffered } from './extents.ts';
import { limits } from './limits.ts';
import type { Lease } from './model.ts';
import type { Need, Needs } from './needs.ts';
import { findSpot, needsAt, spotAt, type Spot } from './spots.ts';
import type { View } from './view.ts';

/** How the leases of one request lie in relation to each other. Claims that name a block with `at` have their place. */

/** What the placement looks at beyond what each claim does by itself. */
export function* placementNeeds(view: View, to: Grantee, claims: readonly Claim[], placement: Placement): Needs {
  if (placement === 'any') return;
  const movable = claims.filter(({ at }) => at === null);
  const slices_max = placement === 'spread' ? limits.spread_slices_max : limits.common_addresses_tried_max;
  yield movable.flatMap((claim) => roomNeeds(view, to, claim, slices_max));
  if (placement === 'spread') return;
  const perProtocol = new Map<string, number>();
  for (const { protocol, count } of claims) perProtocol.set(protocol, (perProtocol.get(protocol) ?? 0) + count);
  yield commonAddresses(view, to, claims).flatMap((address) =>
    movable.flatMap((claim) => needsAt(view, to, claim, address, perProtocol.get(claim.protocol) ?? 1)),
  );
}

const roomNeeds = (view: View, { machine }: Grantee, claim: Claim, limit: number): readonly Need[] =>
  offersFor(view, machine, claim).flatMap(({ pool: id, family }): readonly Need[] => {
    const pool = view.pools.get(id);
    const order = pool && orderOf(claim, pool);
    const where = { machine, protocol: claim.protocol, pool: id, family };
    return order === undefined ? [] : [{ need: 'roomySlices', ...where, order, limit }];
  });

/**
 * The addresses to try for leases that must all be on one, in order: those with room for the largest of the claims, what
 * sticky claims would rather have first, then the tightest.
 */
export function commonAddresses(view: View, to: Grantee, claims: readonly Claim[]): readonly Address[] {
  const named = claims.map(addressOf).find((address) => address !== null);
  if (named !== undefined) return [named];
  const [first, ...rest] = claims;
  if (!first) return [];
  const largest = rest.reduce((most, claim) => ((claim.ports ?? 0) > (most.ports ?? 0) ? claim : most), first);
  const found = spotsByAddress(view, to, largest)
    .sort(([, a], [, b]) => (isBetter(a, b) ? -1 : 1))
    .map(([address]) => address);
  const preferred = claims.flatMap((claim) => stickyAddresses(view, to, claim)).filter((one) => found.includes(one));
  return [...new Set([...preferred, ...found])].slice(0, limits.common_addresses_tried_max);
}

/**
 * Chooses spots so that the leases of a request are spread over the addresses of the machine, as evenly as these have
 * room. When no address that was looked at has any, it chooses like any other request.
 */
export class Spread {
  readonly #view: View;
  readonly #to: Grantee;
  readonly #leases = new Map<Address, number>();
  /** Of the claim that has its turn. The spot that is chosen is taken, so that address is looked at again. */
  #claim: Claim | undefined;
  #spots = new Map<Address, Spot>();
  #taken: Address | undefined;

  /** `leases`: what the request was granted already. */
  constructor(view: View, to: Grantee, leases: readonly Pick<Lease, 'address'>[] = []) {
    this.#view = view;
    this.#to = to;
    for (const { address } of leases) this.#count(address);
  }

  choose(claim: Claim): Result<Spot, LeaseError> {
    const found = findSpot(this.#view, this.#to, claim);
    if (!found.ok) return found;
    const named = addressOf(claim);
    if (named !== null) {
      this.#count(named);
      return found;
    }
    this.#look(claim);
    let best: readonly [Address, Spot] | undefined;
    for (const entry of this.#spots) if (!best || this.#isBetter(entry, best)) best = entry;
    if (!best) return found;
    this.#taken = best[0];
    this.#count(best[0]);
    return ok(best[1]);
  }

  #look(claim: Claim): void {
    if (claim !== this.#claim) this.#spots = new Map(spotsByAddress(this.#view, this.#to, claim));
    else if (this.#taken !== undefined) {
      const spot = spotAt(this.#view, this.#to, claim, this.#taken);
      if (spot) this.#spots.set(this.#taken, spot);
      else this.#spots.delete(this.#taken);
    }
    this.#claim = claim;
    this.#taken = undefined;
  }

  #count(address: Address): void {
    this.#leases.set(address, this.#leasesOn(address) + 1);
  }

  #leasesOn(address: Address): number {
    return this.#leases.get(address) ?? 0;
  }

  #isBetter([a, spotA]: readonly [Address, Spot], [b, spotB]: readonly [Address, Spot]): boolean {
    const difference = this.#leasesOn(a) - this.#leasesOn(b);
    return difference === 0 ? isBetter(spotA, spotB) : difference < 0;
  }
}

/** The best spot of every address of the machine that the view knows, where there is one. */
function spotsByAddress(view: View, to: Grantee, claim: Claim): [Address, Spot][] {
  const addresses = new Set<Address>();
  for (const slice of view.slices.values())
    if (slice.machine === to.machine && isOffered(slice)) addresses.add(slice.address);
  return [...addresses].flatMap((address): [Address, Spot][] => {
    const spot = spotAt(view, to, claim, address);
    return spot ? [[address, spot]] : [];
  });
}

/** To join comes before to cut; the rest of the order is that of any other grant. */
function isBetter(a: Spot, b: Spot): boolean {
  if ('extent' in a && 'extent' in b) return comesBefore(a.extent, b.extent);
  if ('join' in a && 'join' in b)
    return a.join.members === b.join.members
      ? a.join.slice < b.join.slice || (a.join.slice === b.join.slice && a.join.ports.first < b.join.ports.first)
      : a.join.members < b.join.members;
  return 'join' in a;
}

/** Tries the addresses one after the other; `attempt` undoes what it did when it fails. */
export function onOneAddress<T>(
  view: View,
  to: Grantee,
  claims: readonly Claim[],
  attempt: (claims: readonly Claim[]) => Result<T, LeaseError>,
): Result<T, LeaseError> {
  const leases = claims.reduce((sum, { count }) => sum + count, 0);
  const addresses = commonAddresses(view, to, claims);
  const isElsewhere = (address: Address) => claims.some((claim) => (addressOf(claim) ?? address) !== address);
  for (const address of addresses) {
    if (isElsewhere(address)) break;
    const mark = view.mark();
    const granted = attempt(claims.map((claim) => ({ ...claim, address })));
    if (granted.ok) return granted;
    view.rewindTo(mark);
  }
  // What fails anywhere has a reason of its own, which says more.
  const anywhere = attempt(claims);
  return anywhere.ok
    ? err({ code: 'no_common_address', machine: to.machine, leases, addresses: addresses.length })
    : anywhere;
}
