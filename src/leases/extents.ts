import { familyOf } from '../net/address.ts';
import type { PortRange } from '../net/ports.ts';
import { protocols, type Protocol } from '../net/protocol.ts';
import { fitOf, without } from './allocator.ts';
import { placeOf, type Extent, type Slice } from './model.ts';
import type { View } from './view.ts';

/** How the pieces of a slice that nobody leases come, go and grow together. Each step keeps the slice tiled. */

/** The server grants only where the machine has confirmed the slice, and where it is the one that allocates. */
export const isOffered = (slice: Slice): boolean => slice.state === 'assigned' && slice.allocator === 'server';

const freeExtent = (slice: Slice, protocol: Protocol, ports: PortRange, restedSince: number): Extent => ({
  slice: slice.id,
  protocol,
  ports,
  // A slice without a machine has no extents.
  machine: slice.machine ?? '',
  pool: slice.pool,
  family: familyOf(slice.address),
  state: 'free',
  allocator: slice.allocator,
  offered: isOffered(slice),
  fit: fitOf(ports),
  restedSince,
  reusableAt: null,
  blocked: null,
});

/** A slice that a machine just got is free from end to end, for each protocol. */
export function tileSlice(view: View, slice: Slice): void {
  const restedSince = slice.assignedAt ?? 0;
  for (const protocol of protocols) view.extents.put(freeExtent(slice, protocol, slice.ports, restedSince));
}

/** Offers the slice's free extents and shared blocks to grants, or withdraws them, after its state changed. */
export function offerSlice(view: View, slice: Slice): void {
  const offered = isOffered(slice);
  for (const extent of extentsOf(view, slice))
    if (extent.state === 'free' && extent.offered !== offered) view.extents.put({ ...extent, offered });
  for (const block of [...view.blocks.values()])
    if (block.slice === slice.id && block.offered !== (offered && block.blocked === null))
      view.blocks.put({ ...block, offered: offered && block.blocked === null });
}

export function removeExtents(view: View, slice: Slice): void {
  for (const extent of extentsOf(view, slice)) view.extents.remove(placeOf(extent));
}

/** Cuts a block out of a free extent, for a lease to take its place. */
export function takeBlock(view: View, extent: Extent, block: PortRange): void {
  const rest = without(extent.ports, block);
  if (rest[0]?.first !== extent.ports.first) view.extents.remove(placeOf(extent));
  for (const ports of rest) view.extents.put({ ...extent, ports, fit: fitOf(ports) });
}

/** Gives ports back after their rest: they grow together with the free pieces on either side. */
export function giveBack(view: View, slice: Slice, protocol: Protocol, ports: PortRange, restedSince: number): void {
  let merged = freeExtent(slice, protocol, ports, restedSince);
  for (const neighbour of [...view.extentsOf(slice.id, protocol)]) {
    const touches = neighbour.ports.last + 1 === ports.first || ports.last + 1 === neighbour.ports.first;
    if (neighbour.state !== 'free' || !touches) continue;
    view.extents.remove(placeOf(neighbour));
    const union = {
      first: Math.min(merged.ports.first, neighbour.ports.first),
      last: Math.max(merged.ports.last, neighbour.ports.last),
    };
    // The whole has rested only as long as its most recently used part.
    const rested = Math.max(merged.restedSince, neighbour.restedSince);
    merged = { ...merged, ports: union, fit: fitOf(union), restedSince: rested };
  }
  view.extents.put(merged);
}

/** A stranger has these ports: nobody is granted them until an operator says that it is gone. */
export function blockPorts(
  view: View,
  slice: Slice,
  protocol: Protocol,
  ports: PortRange,
  since: number,
  reason: string,
) {
  const extent = freeExtent(slice, protocol, ports, since);
  view.extents.put({ ...extent, state: 'blocked', offered: false, blocked: { since, reason } });
}

const extentsOf = (view: View, slice: Slice): readonly Extent[] =>
  protocols.flatMap((protocol) => [...view.extentsOf(slice.id, protocol)]);
