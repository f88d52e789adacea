import { familyOf, type Address } from '../net/address.ts';
import { blockAt, ceilLog2, portCount, rangeContains, rangesOverlap, type PortRange } from '../net/ports.ts';
import { err, ok, type Result } from '../net/result.ts';
import { comesBefore, topBlock } from './allocator.ts';
import { machineAllocates, machineAllocatedNeeds } from './allocators.ts';
import { bindingOf, isSelected, offersFor, offersNamed, orderOf, stickyAddresses, type Grantee } from './claims.ts';
import type { Claim } from './commands.ts';
import type { LeaseError } from './errors.ts';
import { isOffered } from './extents.ts';
import { placeKey, type Extent, type SharedBlock, type Slice } from './model.ts';
import type { Need, Needs } from './needs.ts';
import type { Offer, View } from './view.ts';

/** Where a lease goes: into a block that others share, or into a block cut out of a free extent. */
export type Spot = Readonly<{ join: SharedBlock } | { extent: Extent; block: PortRange }>;

/** What one claim looks at. For the leases of a request in relation to each other see placement.ts. */
export function* claimNeeds(view: View, to: Grantee, claim: Claim): Needs {
  const { machine, holder } = to;
  const { protocol, at } = claim;
  const holders: Need[] = claim.sticky ? [{ need: 'holder', machine, name: holder }] : [];
  if (at) {
    yield [{ need: 'sliceAt', address: at.address, port: at.firstPort }, ...holders];
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
  const named: Need[] = claim.pool === null ? [] : [{ need: 'pool', id: claim.pool }];
  const pools = offersNamed(view, machine, claim).map((offer): Need => ({ need: 'pool', id: offer.pool }));
  yield [...named, ...holders, ...pools, ...machineAllocatedNeeds(view, machine, claim)];
  const addresses = claim.address === null ? stickyAddresses(view, to, claim) : [claim.address];
  const offers = claim.address === null ? offersFor(view, machine, claim) : [];
  yield [
    ...offers.flatMap((offer) => windowsOf(view, to, claim, offer)),
    ...(claim.address === null
      ? []
      : [{ need: 'offeredAt', machine, address: claim.address, allocator: 'server' } as const]),
    ...addresses.flatMap((address) => needsAt(view, to, claim, address, claim.count)),
    { need: 'nextRest', machine, protocol },
  ];
}

/** The best candidates in what one pool offers: shared blocks to join first of all, free extents to cut from. */
function windowsOf(
  view: View,
  { machine, holder }: Grantee,
  claim: Claim,
  { pool: id, family }: Offer,
): readonly Need[] {
  const pool = view.pools.get(id);
  const order = pool && orderOf(claim, pool);
  if (order === undefined) return [];
  const { protocol, ports, count: limit } = claim;
  const where = { machine, protocol, pool: id, family, limit };
  const free: Need = { need: 'offeredExtents', ...where, order };
  if (!isShareable(claim)) return [free];
  const size = ports === null ? null : 2 ** order;
  return [{ need: 'joinableBlocks', ...where, holder, binding: bindingOf(claim), ports: size }, free];
}

/** The best candidates on one address, for `limit` leases. A block of unsaid size is as large as some pool of the machine says. */
export function needsAt(
  view: View,
  { machine, holder }: Grantee,
  claim: Claim,
  address: Address,
  limit: number,
): readonly Need[] {
  const pools = offersFor(view, machine, claim).flatMap(({ pool }) => view.pools.get(pool) ?? []);
  const orders = pools.flatMap((pool) => orderOf(claim, pool) ?? []);
  const { protocol, ports } = claim;
  const where = { machine, protocol, address, limit };
  const free = [...new Set(orders)].map((order): Need => ({ need: 'extentsAt', ...where, order }));
  if (!isShareable(claim)) return free;
  const size = ports === null ? null : 2 ** ceilLog2(ports);
  return [{ need: 'joinableAt', ...where, holder, binding: bindingOf(claim), ports: size }, ...free];
}

const isShareable = ({ mode, protocol }: Claim): boolean => mode === 'shared' && protocol === 'tcp';

/** Where the next lease of a claim goes, by what the view knows now. */
export function findSpot(view: View, to: Grantee, claim: Claim): Result<Spot, LeaseError> {
  if (claim.mode === 'shared' && claim.protocol !== 'tcp')
    return err({ code: 'shared_needs_tcp', protocol: claim.protocol });
  if (claim.mode !== 'shared' && claim.binding !== null) return err({ code: 'binding_needs_shared' });
  if (claim.at) return exactSpot(view, to, claim, claim.at);
  for (const address of claim.sticky ? stickyAddresses(view, to, claim) : []) {
    const spot = claim.address === null ? spotAt(view, to, claim, address) : undefined;
    if (spot) return ok(spot);
  }
  return bestSpot(view, to, claim);
}

function bestSpot(view: View, to: Grantee, claim: Claim): Result<Spot, LeaseError> {
  const { machine, holder } = to;
  const { address } = claim;
  if (claim.pool !== null && !view.pools.get(claim.pool)) return err({ code: 'pool_not_found', pool: claim.pool });
  const offers = offersFor(view, machine, claim);
  const noSlices = (): Result<never, LeaseError> =>
    err(machineAllocates(view, machine, claim) ?? { code: 'no_slices', machine, address });
  if (offers.length === 0) return noSlices();
  const pools = offers.flatMap((offer) => view.pools.get(offer.pool) ?? []);
  const orders = new Map(pools.map((pool) => [pool.id, orderOf(claim, pool)]));
  const sizes = [...orders.values()].filter((order) => order !== undefined);
  const smallest = Math.min(...sizes);
  if (sizes.length === 0) {
    const largest = Math.max(...pools.map((pool) => pool.slicePorts));
    const exceeded = { code: 'ports_exceed_slice', ports: claim.ports ?? 1, slicePorts: largest } as const;
    return err(machineAllocates(view, machine, claim) ?? exceeded);
  }
  const { protocol } = claim;
  const none = (): Result<never, LeaseError> => {
    const nextAt = view.nextRestOf(machine, protocol);
    const full = { code: 'no_ports', machine, address, protocol, ports: 2 ** smallest, nextAt } as const;
    return err(machineAllocates(view, machine, claim, nextAt) ?? full);
  };
  if (address !== null) {
    const spot = spotAt(view, to, claim, address);
    if (spot) return ok(spot);
    // No wait helps where nothing of the machine on this address is what the claim asks for.
    const [slice] = offeredAt(view, machine, address);
    if (!slice || !isOneOf(offers, { pool: slice.pool, family: familyOf(address) })) return noSlices();
    if (orders.get(slice.pool) !== undefined) return none();
    const slicePorts = portCount(slice.ports);
    const exceeded = { code: 'ports_exceed_slice', ports: claim.ports ?? 1, slicePorts } as const;
    return err(machineAllocates(view, machine, claim) ?? exceeded);
  }

  if (claim.mode === 'shared') {
    const block = leastCrowded(view.joinableBlocks(machine, holder), claim, (one) => isOneOf(offers, one));
    if (block) return ok({ join: block });
  }
  let best: Extent | undefined;
  for (const offer of offers) {
    const order = orders.get(offer.pool);
    if (order === undefined) continue;
    const extent = view.bestExtent(machine, protocol, offer, order);
    if (extent && (!best || comesBefore(extent, best))) best = extent;
  }
  const block = best && topBlock(best.ports, orders.get(best.pool) ?? 0);
  return best && block ? ok({ extent: best, block }) : none();
}

const isOneOf = (offers: readonly Offer[], { pool, family }: Offer): boolean =>
  offers.some((offer) => offer.pool === pool && offer.family === family);

/** The slices on an address that the machine is granted from, as far as they are known. */
const offeredAt = (view: View, machine: string, address: Address): readonly Slice[] =>
  [...view.slices.values()].filter((one) => one.address === address && one.machine === machine && isOffered(one));

/** The best spot on one address, by the same rules. It is of one pool and of one family. */
export function spotAt(view: View, to: Grantee, claim: Claim, address: Address): Spot | undefined {
  const { machine, holder } = to;
  const slices = offeredAt(view, machine, address);
  const here = new Set(slices.map(({ id }) => id));
  const [first] = slices;
  const isMeant = first && isOneOf(offersFor(view, machine, claim), { pool: first.pool, family: familyOf(address) });
  const pool = isMeant ? view.pools.get(first.pool) : undefined;
  const order = pool && orderOf(claim, pool);
  if (order === undefined) return undefined;
  if (claim.mode === 'shared') {
    const block = leastCrowded(view.joinableBlocks(machine, holder), claim, ({ slice }) => here.has(slice));
    if (block) return { join: block };
  }
  let best: Extent | undefined;
  for (const slice of here)
    for (const extent of view.extentsOf(slice, claim.protocol))
      if (extent.offered && extent.fit >= order && (!best || comesBefore(extent, best))) best = extent;
  const block = best && topBlock(best.ports, order);
  return best && block && { extent: best, block };
}

/** The block with the fewest leases that the claim may join; the rest of the order only makes the answer definite. */
function leastCrowded(
  blocks: Iterable<SharedBlock>,
  claim: Claim,
  isMeant: (block: SharedBlock) => boolean,
): SharedBlock | undefined {
  const size = claim.ports === null ? null : 2 ** ceilLog2(claim.ports);
  let best: SharedBlock | undefined;
  for (const block of blocks) {
    const fits =
      isMeant(block) &&
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

function exactSpot(view: View, to: Grantee, claim: Claim, at: NonNullable<Claim['at']>): Result<Spot, LeaseError> {
  const { machine, holder } = to;
  const slice = view.sliceAt(at.address, at.firstPort);
  if (slice?.machine !== machine || slice.state !== 'assigned') return err({ code: 'block_not_owned', ...at, machine });
  if (claim.pool !== null && claim.pool !== slice.pool)
    return err({ code: 'slice_outside_pool', ...at, pool: claim.pool });
  if (claim.family !== null && claim.family !== familyOf(at.address))
    return err({ code: 'block_not_owned', ...at, machine });
  const pool = view.pools.get(slice.pool);
  if (!isSelected(claim, pool)) return err({ code: 'no_slices', machine, address: at.address });
  const order = pool && orderOf(claim, pool);
  if (order === undefined)
    return err({ code: 'ports_exceed_slice', ports: claim.ports ?? 1, slicePorts: portCount(slice.ports) });
  if (at.firstPort % 2 ** order !== 0)
    return err({ code: 'block_misaligned', firstPort: at.firstPort, ports: 2 ** order });
  if (slice.allocator === 'machine')
    return err({ code: 'machine_allocates', machine, address: at.address, slice: slice.id, nextAt: null });

  const block = blockAt(at.firstPort, order);
  const shared = view.blocks.get(placeKey(slice.id, claim.protocol, at.firstPort));
  const isSameKind = shared?.binding === bindingOf(claim) && shared.ports.last === block.last;
  if (shared?.blocked) return err({ code: 'block_taken', ...at, state: 'blocked' });
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
