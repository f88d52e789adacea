import { familyOf } from '../net/address.ts';
import { blockAt, ceilLog2, portCount, rangeContains, rangesOverlap, type PortRange } from '../net/ports.ts';
import { err, ok, type Result } from '../net/result.ts';
import { comesBefore, topBlock } from './allocator.ts';
import type { Claim } from './commands.ts';
import type { LeaseError } from './errors.ts';
import { takeBlock } from './extents.ts';
import { limits } from './limits.ts';
import {
  placeKey,
  type Binding,
  type Extent,
  type Lease,
  type Pool,
  type Session,
  type SharedBlock,
  type Slice,
} from './model.ts';
import { together, type Need, type Needs } from './needs.ts';
import { liveSession, sessionNeeds } from './sessions.ts';
import type { UseCase } from './use-case.ts';
import type { Offer, View } from './view.ts';

/** All claims of one request are granted, or none: the first that fails undoes those before it. */
export const grantLeases: UseCase<'grantLeases'> = {
  *needs({ scope, session: id, claims }, { view }) {
    yield* sessionNeeds(view, scope, id);
    const session = view.sessions.get(id);
    if (!session) return;
    yield [
      { need: 'machine', id: session.machine },
      { need: 'offers', machine: session.machine },
    ];
    yield* together(claims.map((claim) => claimNeeds(view, session, claim)));
  },

  decide({ scope, session: id, claims }, context) {
    const { view } = context;
    if (claims.length > limits.claims_per_grant_max) throw new Error(`${claims.length} claims in one command`);
    const session = liveSession(context, scope, id);
    if (!session.ok) return session;
    const machine = view.machines.get(session.value.machine);
    if (machine?.state !== 'active')
      return err({ code: 'machine_not_active', machine: session.value.machine, state: machine?.state ?? 'unknown' });
    const isTrusted = machine.enforcement === 'none';
    const leases: Lease[] = [];
    for (const claim of claims) {
      const spot = findSpot(view, session.value, claim);
      if (!spot.ok) return spot;
      leases.push(settleOn(view, session.value, claim, spot.value, isTrusted));
    }
    return ok(leases);
  },
};

/** Where a lease goes: into a block that others share, or into a block cut out of a free extent. */
type Spot = Readonly<{ join: SharedBlock } | { extent: Extent; block: PortRange }>;

function* claimNeeds(view: View, session: Session, claim: Claim): Needs {
  const { machine, holder } = session;
  const { protocol, at } = claim;
  if (at) {
    yield [{ need: 'sliceAt', address: at.address, port: at.firstPort }];
    const slice = view.sliceAt(at.address, at.firstPort);
    if (!slice) return;
    yield [{ need: 'pool', id: slice.pool }];
    const pool = view.pools.get(slice.pool);
    const order = pool && orderOf(claim, pool);
    if (order === undefined || at.firstPort % 2 ** order !== 0) return;
    const ports = blockAt(at.firstPort, order);
    yield [
      { need: 'extentsAround', slice: slice.id, protocol, ports },
      { need: 'occupant', slice: slice.id, protocol, ports },
      { need: 'block', slice: slice.id, protocol, first: at.firstPort },
      { need: 'membership', slice: slice.id, protocol, first: at.firstPort, holder },
    ];
    return;
  }
  const offers = view.offersOf(machine).filter((offer) => suits(claim, offer));
  const named: Need[] = claim.pool === null ? [] : [{ need: 'pool', id: claim.pool }];
  yield [...named, ...offers.map((offer): Need => ({ need: 'pool', id: offer.pool }))];
  yield [...offers.flatMap((offer) => windowsOf(view, session, claim, offer)), { need: 'nextRest', machine, protocol }];
}

/** The best candidates in what one pool offers: shared blocks to join first of all, free extents to cut from. */
function windowsOf(
  view: View,
  { machine, holder }: Session,
  claim: Claim,
  { pool: id, family }: Offer,
): readonly Need[] {
  const pool = view.pools.get(id);
  const order = pool && orderOf(claim, pool);
  if (order === undefined) return [];
  const { protocol, mode, ports } = claim;
  const where = { machine, protocol, pool: id, family, limit: 1 };
  const free: Need = { need: 'offeredExtents', ...where, order };
  if (mode !== 'shared' || protocol !== 'tcp') return [free];
  const size = ports === null ? null : 2 ** order;
  return [{ need: 'joinableBlocks', ...where, holder, binding: bindingOf(claim), ports: size }, free];
}

const suits = (claim: Claim, offer: Offer): boolean =>
  (claim.pool === null || claim.pool === offer.pool) && (claim.family === null || claim.family === offer.family);

const bindingOf = (claim: Claim): Binding => claim.binding ?? 'late';

/** The exponent of the block's size; undefined when a slice of this pool is too small for it. */
function orderOf(claim: Claim, pool: Pool): number | undefined {
  const unsaid = claim.mode === 'shared' ? Math.min(pool.sharedBlockPorts, pool.slicePorts) : 1;
  const order = ceilLog2(claim.ports ?? unsaid);
  return 2 ** order <= pool.slicePorts ? order : undefined;
}

function findSpot(view: View, session: Session, claim: Claim): Result<Spot, LeaseError> {
  if (claim.mode === 'shared' && claim.protocol !== 'tcp')
    return err({ code: 'shared_needs_tcp', protocol: claim.protocol });
  if (claim.mode !== 'shared' && claim.binding !== null) return err({ code: 'binding_needs_shared' });
  return claim.at ? exactSpot(view, session, claim, claim.at) : bestSpot(view, session, claim);
}

function bestSpot(view: View, session: Session, claim: Claim): Result<Spot, LeaseError> {
  const { machine, holder } = session;
  if (claim.pool !== null && !view.pools.get(claim.pool)) return err({ code: 'pool_not_found', pool: claim.pool });
  const offers = view.offersOf(machine).filter((offer) => suits(claim, offer));
  if (offers.length === 0) return err({ code: 'no_slices', machine });
  const pools = offers.flatMap((offer) => view.pools.get(offer.pool) ?? []);
  const orders = new Map(pools.map((pool) => [pool.id, orderOf(claim, pool)]));
  const sizes = [...orders.values()].filter((order) => order !== undefined);
  const smallest = Math.min(...sizes);
  if (sizes.length === 0) {
    const largest = Math.max(...pools.map((pool) => pool.slicePorts));
    return err({ code: 'ports_exceed_slice', ports: claim.ports ?? 1, slicePorts: largest });
  }

  if (claim.mode === 'shared') {
    const block = leastCrowded(view.joinableBlocks(machine, holder), claim);
    if (block) return ok({ join: block });
  }
  let best: Extent | undefined;
  for (const offer of offers) {
    const order = orders.get(offer.pool);
    if (order === undefined) continue;
    const extent = view.bestExtent(machine, claim.protocol, offer, order);
    if (extent && (!best || comesBefore(extent, best))) best = extent;
  }
  const block = best && topBlock(best.ports, orders.get(best.pool) ?? 0);
  if (best && block) return ok({ extent: best, block });
  const { protocol } = claim;
  return err({ code: 'no_ports', machine, protocol, ports: 2 ** smallest, nextAt: view.nextRestOf(machine, protocol) });
}

/** The block with the fewest leases that the claim may join; the rest of the order only makes the answer definite. */
function leastCrowded(blocks: Iterable<SharedBlock>, claim: Claim): SharedBlock | undefined {
  const size = claim.ports === null ? null : 2 ** ceilLog2(claim.ports);
  let best: SharedBlock | undefined;
  for (const block of blocks) {
    const fits =
      suits(claim, block) &&
      block.binding === bindingOf(claim) &&
      (size ?? portCount(block.ports)) === portCount(block.ports);
    if (fits && (!best || isLessCrowded(block, best))) best = block;
  }
  return best;
}

function isLessCrowded(a: SharedBlock, b: SharedBlock): boolean {
  if (a.members !== b.members) return a.members < b.members;
  return a.slice !== b.slice ? a.slice < b.slice : a.ports.first < b.ports.first;
}

function exactSpot(view: View, session: Session, claim: Claim, at: NonNullable<Claim['at']>): Result<Spot, LeaseError> {
  const { machine, holder } = session;
  const slice = view.sliceAt(at.address, at.firstPort);
  if (slice?.machine !== machine || slice.state !== 'assigned' || slice.allocator !== 'server')
    return err({ code: 'block_not_owned', ...at, machine });
  if (claim.pool !== null && claim.pool !== slice.pool)
    return err({ code: 'slice_outside_pool', ...at, pool: claim.pool });
  if (claim.family !== null && claim.family !== familyOf(at.address))
    return err({ code: 'block_not_owned', ...at, machine });
  const pool = view.pools.get(slice.pool);
  const order = pool && orderOf(claim, pool);
  if (order === undefined)
    return err({ code: 'ports_exceed_slice', ports: claim.ports ?? 1, slicePorts: portCount(slice.ports) });
  if (at.firstPort % 2 ** order !== 0)
    return err({ code: 'block_misaligned', firstPort: at.firstPort, ports: 2 ** order });

  const block = blockAt(at.firstPort, order);
  const shared = view.blocks.get(placeKey(slice.id, claim.protocol, at.firstPort));
  const isSameKind = shared?.binding === bindingOf(claim) && shared.ports.last === block.last;
  if (shared && claim.mode === 'shared' && isSameKind && !view.isMember(shared, holder)) return ok({ join: shared });
  for (const extent of view.extentsOf(slice.id, claim.protocol))
    if (extent.offered && rangeContains(extent.ports, block)) return ok({ extent, block });
  return err({ code: 'block_taken', ...at, state: stateOf(view, slice, claim, block) });
}

/** What is in the way of a block that was asked for by name; of several things the same one, in whatever order they were loaded. */
function stateOf(view: View, slice: Slice, claim: Claim, block: PortRange): string {
  const lease = view.occupantOf(slice.id, claim.protocol, block);
  if (lease) return lease.state === 'cooling' ? 'cooling' : lease.mode;
  let last: Extent | undefined;
  for (const extent of view.extentsOf(slice.id, claim.protocol)) {
    const isInTheWay = extent.state !== 'free' && rangesOverlap(extent.ports, block);
    if (isInTheWay && (!last || extent.ports.first > last.ports.first)) last = extent;
  }
  return last?.state ?? 'taken';
}

function settleOn(view: View, session: Session, claim: Claim, spot: Spot, isTrusted: boolean): Lease {
  const ground = 'join' in spot ? spot.join : spot.extent;
  const ports = 'join' in spot ? spot.join.ports : spot.block;
  const slice = view.slices.get(ground.slice);
  if (!slice) throw new Error(`slice-${ground.slice} of an offered extent is missing`);
  const { protocol, mode } = claim;
  const binding = mode === 'shared' ? bindingOf(claim) : null;
  const { lease } = view.log(session.machine, (revision, at) => ({
    kind: 'lease',
    lease: {
      id: revision,
      slice: slice.id,
      generation: slice.generation,
      epoch: view.epoch,
      session: session.id,
      machine: session.machine,
      holder: session.holder,
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
    const terms = { machine, pool, family, binding, offered: spot.extent.offered };
    view.blocks.put({ slice: slice.id, protocol, ports, ...terms, members: 1 });
  }
  return lease;
}
