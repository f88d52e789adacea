import { familyOf } from '../net/address.ts';
import { err, ok, type Result } from '../net/result.ts';
import { ownOfferNeeds } from './allocators.ts';
import { bindingOf, type Grantee } from './claims.ts';
import type { Claim, Placement } from './commands.ts';
import type { LeaseError } from './errors.ts';
import { takeBlock } from './extents.ts';
import { limits } from './limits.ts';
import { holderKey, type Lease, type Machine } from './model.ts';
import { together, type Needs } from './needs.ts';
import { onOneAddress, placementNeeds, Spread } from './placement.ts';
import { Quota, quotaNeeds } from './quotas.ts';
import { leasesThatStand } from './replays.ts';
import { granteeNamed, granteeNeeds, granteeOf } from './grantees.ts';
import { claimNeeds, findSpot, type Spot } from './spots.ts';
import type { UseCase } from './use-case.ts';
import type { View } from './view.ts';

/** All leases of one request are granted, or none: the first that fails undoes those before it. */
export const grantLeases: UseCase<'grantLeases'> = {
  replay: leasesThatStand,

  *needs(grant, { view }) {
    const { claims, placement = 'any' } = grant;
    yield* granteeNeeds(view, grant);
    const to = granteeNamed(view, grant);
    if (to) yield* groundNeeds(view, to, claims, placement);
  },

  decide(grant, context) {
    const { view } = context;
    const { claims, placement = 'any' } = grant;
    const count = claims.reduce((sum, claim) => sum + claim.count, 0);
    if (count > limits.leases_per_grant_max) throw new Error(`${count} leases in one command`);
    const grantee = granteeOf(context, grant);
    if (!grantee.ok) return grantee;
    return settleFor(view, grantee.value, claims, placement);
  },
};

/** What is looked at to find room for the claims of somebody. */
export function* groundNeeds(view: View, to: Grantee, claims: readonly Claim[], placement: Placement): Needs {
  yield [
    { need: 'machine', id: to.machine },
    { need: 'offers', machine: to.machine },
  ];
  yield [...quotaNeeds(view, to.machine), ...ownOfferNeeds(view, to.machine)];
  yield* together(claims.map((claim) => claimNeeds(view, to, claim)));
  yield* placementNeeds(view, to, claims, placement);
}

/** Grants the claims to somebody who may have them, if there is room for all. */
export function settleFor(
  view: View,
  to: Grantee,
  claims: readonly Claim[],
  placement: Placement,
): Result<readonly Lease[], LeaseError> {
  const machine = placeOf(view, to);
  if (!machine.ok) return machine;
  const settle = settlingOn(view, to, machine.value);
  switch (placement) {
    case 'any':
      return settle(claims);
    case 'same_address':
      return onOneAddress(view, to, claims, settle);
    case 'spread': {
      const spread = new Spread(view, to);
      return settle(claims, (claim) => spread.choose(claim));
    }
  }
}

/**
 * What each claim would come to after those before it that can be granted. Up to the first that fails it is what the grant
 * does, but that leases which must share an address may be on any here.
 */
export function settleEach(
  view: View,
  to: Grantee,
  claims: readonly Claim[],
  placement: Placement,
): readonly Result<readonly Lease[], LeaseError>[] {
  const machine = placeOf(view, to);
  if (!machine.ok) return claims.map(() => machine);
  const settle = settlingOn(view, to, machine.value);
  const granted: Lease[] = [];
  return claims.map((claim) => {
    const mark = view.mark();
    // By what is granted so far: a claim that failed in the middle leaves nothing behind.
    const spread = placement === 'spread' ? new Spread(view, to, granted) : undefined;
    const settled = settle([claim], spread && ((one) => spread.choose(one)));
    if (settled.ok) granted.push(...settled.value);
    else view.rewindTo(mark);
    return settled;
  });
}

/** The machine, if anything is granted there now. */
function placeOf(view: View, to: Grantee): Result<Machine, LeaseError> {
  const machine = view.machines.get(to.machine);
  return machine?.state === 'active'
    ? ok(machine)
    : err({ code: 'machine_not_active', machine: to.machine, state: machine?.state ?? 'unknown' });
}

const settlingOn =
  (view: View, to: Grantee, { enforcement, limitedHolders }: Machine) =>
  (some: readonly Claim[], choose = (claim: Claim) => findSpot(view, to, claim)) =>
    settleAll(view, to, some, choose, enforcement === 'none', limitedHolders > 0 ? new Quota(view, to) : null);

function settleAll(
  view: View,
  to: Grantee,
  claims: readonly Claim[],
  choose: (claim: Claim) => Result<Spot, LeaseError>,
  isTrusted: boolean,
  quota: Quota | null,
): Result<readonly Lease[], LeaseError> {
  const leases: Lease[] = [];
  for (const claim of claims)
    for (let like = 0; like < claim.count; like++) {
      const spot = choose(claim);
      if (!spot.ok) return spot;
      const taken = quota?.take(claim.protocol, spot.value);
      if (taken && !taken.ok) return taken;
      leases.push(settleOn(view, to, claim, spot.value, isTrusted));
    }
  return ok(leases);
}

function settleOn(view: View, to: Grantee, claim: Claim, spot: Spot, isTrusted: boolean): Lease {
  const ground = 'join' in spot ? spot.join : spot.extent;
  const ports = 'join' in spot ? spot.join.ports : spot.block;
  const slice = view.slices.get(ground.slice);
  if (!slice) throw new Error(`slice-${ground.slice} of an offered extent is missing`);
  const { protocol, mode } = claim;
  const binding = mode === 'shared' ? bindingOf(claim) : null;
  const { lease } = view.log(to.machine, (revision, at) => ({
    kind: 'lease',
    lease: {
      id: revision,
      slice: slice.id,
      generation: slice.generation,
      epoch: view.epoch,
      ...{ machine: to.machine, holder: to.holder, session: to.session, unit: to.unit },
      pool: slice.pool,
      address: slice.address,
      protocol,
      ports,
      mode,
      binding,
      state: isTrusted ? 'active' : 'pending',
      ending: null,
      refusal: null,
      reason: null,
      forced: false,
      grantedAt: at,
      activeAt: isTrusted ? at : null,
      endingAt: null,
      emptyAt: null,
      reusableAt: null,
      endedAt: null,
      revision,
    },
  }));
  view.leases.put(lease);
  if ('join' in spot) view.blocks.put({ ...spot.join, members: spot.join.members + 1 });
  else takeBlock(view, spot.extent, spot.block);
  if ('extent' in spot && binding !== null) {
    const { machine, pool, family } = spot.extent;
    const terms = { machine, pool, family, binding, offered: spot.extent.offered, blocked: null };
    view.blocks.put({ slice: slice.id, protocol, ports, ...terms, members: 1 });
  }
  if (claim.sticky) stickTo(view, lease);
  return lease;
}

/** What sticky claims of the holder will be granted from next, as long as there is room. No news to anybody: no event. */
function stickTo(view: View, { machine, holder: name, address }: Lease): void {
  const holder = view.holders.get(holderKey(machine, name));
  const family = familyOf(address) === 4 ? 'v4' : 'v6';
  if (holder && holder.sticky[family] !== address)
    view.holders.put({ ...holder, sticky: { ...holder.sticky, [family]: address } });
}
