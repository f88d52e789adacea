import { rangesOverlap, type PortRange } from '../net/ports.ts';
import type { Protocol } from '../net/protocol.ts';
import { blockPorts, isOffered } from './extents.ts';
import { placeKey, placeOf, type Lease, type Slice } from './model.ts';
import type { Need } from './needs.ts';
import type { Context } from './use-case.ts';

/** Ports that a stranger has: how they come out of the offers of the server, and back into them. */

export const blockedNeeds = (slice: Slice, protocol: Protocol, ports: PortRange): readonly Need[] => [
  { need: 'pool', id: slice.pool },
  { need: 'extentsAround', slice: slice.id, protocol, ports },
  { need: 'block', slice: slice.id, protocol, first: ports.first },
];

/**
 * The kernel would not have this lease. Its ports are nobody's then, and blocked; where others stay in the block they keep
 * it, because their sockets are in it already, and nobody else may join them.
 */
export function blockAfterRefusal({ view }: Context, lease: Lease, since: number, reason: string): void {
  const slice = view.slices.get(lease.slice);
  const shared = lease.mode === 'shared' ? view.blocks.get(placeOf(lease)) : undefined;
  if (shared) view.blocks.put({ ...shared, offered: false, blocked: shared.blocked ?? { since, reason } });
  else if (slice) blockPorts(view, slice, lease.protocol, lease.ports, since, reason);
}

/**
 * The strangers on these ports are gone: what was free rests like any other ports that were in use, what is shared may be
 * joined again. False when nothing there was blocked.
 */
export function clearBlocked({ view, now }: Context, slice: Slice, protocol: Protocol, ports: PortRange): boolean {
  const restUs = view.pools.get(slice.pool)?.cooldownUs[protocol] ?? 0;
  const blocked = [...view.extentsOf(slice.id, protocol)].filter(
    (extent) => extent.state === 'blocked' && rangesOverlap(extent.ports, ports),
  );
  for (const extent of blocked)
    view.extents.put({ ...extent, state: 'cooling', blocked: null, restedSince: now, reusableAt: now + restUs });
  const shared = view.blocks.get(placeKey(slice.id, protocol, ports.first));
  if (!shared?.blocked) return blocked.length > 0;
  view.blocks.put({ ...shared, blocked: null, offered: isOffered(slice) });
  return true;
}
