import type { Lease, LeaseState, Slice } from '../../src/leases/model.ts';
import type { Tables } from './memory-store.ts';
import { cooldownS } from './operations.ts';
import { second } from './world.ts';

/** From which state a lease may be found in which, one step later; a step may take it through several at once. */
const leaseSteps: Readonly<Record<LeaseState, readonly LeaseState[]>> = {
  pending: ['pending', 'active', 'refused', 'ending', 'cooling', 'ended'],
  active: ['active', 'ending', 'cooling', 'ended'],
  ending: ['ending', 'cooling', 'ended'],
  cooling: ['cooling', 'ended'],
  refused: ['refused'],
  ended: ['ended'],
};
const sliceSteps: Readonly<Record<Slice['state'], readonly Slice['state'][]>> = {
  assigning: ['assigning', 'assigned', 'draining', 'cooling'],
  assigned: ['assigned', 'draining', 'cooling'],
  draining: ['draining', 'cooling'],
  // Commands that come together may free it and give it to the next.
  cooling: ['cooling', 'free', 'assigning', 'assigned', 'draining'],
  // Also given out and taken back, by commands that came together.
  free: ['free', 'assigning', 'assigned', 'draining', 'cooling'],
};

/** What must hold between the table before and after a step at time `now`: nothing goes back, nothing comes too early. */
export function flawsOfStep(before: Tables, after: Tables, now: number): readonly string[] {
  return [
    ...flawsOfLeases(before, after, now),
    ...flawsOfSlices(before, after, now),
    ...flawsOfTokens(before, after),
    ...flawsOfRoutes(before, after),
  ];
}

function flawsOfLeases(before: Tables, after: Tables, now: number): readonly string[] {
  const flaws: string[] = [];
  for (const lease of before.leases.values()) {
    const next = after.leases.get(lease.id);
    if (!next) flaws.push(`lease-${lease.id} is gone`);
    else if (!leaseSteps[lease.state].includes(next.state))
      flaws.push(`lease-${lease.id} went from ${lease.state} to ${next.state}`);
    // Where an agent enforces, only its word makes ports rest.
    const isEarly = lease.state === 'cooling' && next?.state === 'ended' && now < (lease.reusableAt ?? 0);
    if (isEarly) flaws.push(`lease-${lease.id} left its cooldown early`);
  }
  for (const lease of after.leases.values()) {
    if (before.leases.has(lease.id)) continue;
    const hadCompany = [...before.leases.values(), ...after.leases.values()].some(
      (other) => other.id !== lease.id && isBlockMate(lease, other) && other.endedAt === null,
    );
    for (const former of before.leases.values()) {
      const isHere = former.slice === lease.slice && former.protocol === lease.protocol;
      const overlaps = former.ports.first <= lease.ports.last && lease.ports.first <= former.ports.last;
      if (!isHere || !overlaps || former.emptyAt === null || hadCompany) continue;
      // Log time runs ahead of the clock by a microsecond for each event in a batch.
      const slack = 100;
      if (now + slack < former.emptyAt + cooldownS[lease.protocol] * second)
        flaws.push(`lease-${lease.id} got ports of lease-${former.id} before they had rested`);
    }
  }
  return flaws;
}

const isBlockMate = (a: Lease, b: Lease): boolean =>
  a.mode === 'shared' && b.mode === 'shared' && a.slice === b.slice && a.ports.first === b.ports.first;

/** In these stories a pool waits for all routers or for none. Those that were there all the time must have acknowledged. */
function flawsOfRoutes(before: Tables, after: Tables): readonly string[] {
  const flaws: string[] = [];
  for (const slice of before.slices.values()) {
    const next = after.slices.get(slice.id);
    const hasCome = slice.route === 'adding' && (next?.route === 'routed' || next?.state === 'assigned');
    const hasGone = slice.route === 'removing' && next?.route !== 'removing';
    if (!next || !(hasCome || hasGone) || after.pools.get(slice.pool)?.routers.policy !== 'all') continue;
    if (hasCome && before.routers.size + after.routers.size === 0)
      flaws.push(`slice-${slice.id} is routed, and there is no router`);
    for (const router of after.routers.values()) {
      const wasThere = before.routers.get(router.id)?.createdAt === router.createdAt;
      if (wasThere && router.appliedRevision < slice.routeRevision)
        flaws.push(`slice-${slice.id} went from ${slice.route} to ${next.route} before ${router.id} knew`);
    }
  }
  return flaws;
}

function flawsOfSlices(before: Tables, after: Tables, now: number): readonly string[] {
  const flaws: string[] = [];
  for (const slice of before.slices.values()) {
    const next = after.slices.get(slice.id);
    if (!next) {
      flaws.push(`slice-${slice.id} is gone`);
      continue;
    }
    if (!sliceSteps[slice.state].includes(next.state))
      flaws.push(`slice-${slice.id} went from ${slice.state} to ${next.state}`);
    const isOwned = next.state !== 'free';
    const isNewLife = next.state !== 'cooling' || next.generation > slice.generation;
    const changedHands = isOwned && (slice.state === 'free' || (slice.state === 'cooling' && isNewLife));
    if (next.generation !== slice.generation + (changedHands ? 1 : 0))
      flaws.push(`slice-${slice.id} went from generation ${slice.generation} to ${next.generation}`);
    if (!changedHands && isOwned && next.machine !== slice.machine)
      flaws.push(`slice-${slice.id} went from ${slice.machine} to ${next.machine}`);
    const leftRest = slice.state !== 'free' && (changedHands || !isOwned);
    if (leftRest && now < (slice.reusableAt ?? Infinity)) flaws.push(`slice-${slice.id} left its cooldown early`);
  }
  return flaws;
}

function flawsOfTokens(before: Tables, after: Tables): readonly string[] {
  const flaws: string[] = [];
  for (const token of before.accessTokens.values()) {
    const next = after.accessTokens.get(token.id);
    if (!next) flaws.push(`token-${token.id} is gone`);
    else {
      if (token.revokedAt !== null && (next.revokedAt !== token.revokedAt || next.hash !== token.hash))
        flaws.push(`token-${token.id} changed after it was revoked`);
      if ((next.lastUsedAt ?? 0) < (token.lastUsedAt ?? 0))
        flaws.push(`token-${token.id} was used earlier than before`);
      const isBound = token.role === next.role && token.machine === next.machine && token.holder === next.holder;
      if (!isBound) flaws.push(`token-${token.id} is somebody else's now`);
      if (next.revokedAt !== null && next.formerHash !== null) flaws.push(`token-${token.id} keeps a secret`);
    }
  }
  return flaws;
}
