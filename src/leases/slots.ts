import { addressToBigInt, type Address, type Family } from '../net/address.ts';
import { rangeContains, type PortRange } from '../net/ports.ts';
import { prefixAddress, prefixBounds, prefixContains } from '../net/prefix.ts';
import type { Pool } from './model.ts';

/**
 * The slices that a pool could ever have, counted instead of stored: slot n of a prefix is one address and one aligned
 * port range, ports first. A /48 has 2^85 of them, hence bigint; only those that were assigned once have a row.
 */
export type Slot = Readonly<{ prefix: number; slot: bigint; address: Address; ports: PortRange }>;

type Space = Pick<Pool, 'prefixes' | 'slicePorts' | 'usablePorts'>;

/** How many whole slices the usable port range has, and where the first begins. Ports beside them belong to none. */
function slicesOfAddress(pool: Omit<Space, 'prefixes'>): Readonly<{ count: number; firstPort: number }> {
  const { slicePorts, usablePorts } = pool;
  const first = Math.ceil(usablePorts.first / slicePorts);
  const end = Math.floor((usablePorts.last + 1) / slicePorts);
  return { count: Math.max(0, end - first), firstPort: first * slicePorts };
}

export function slotCount(pool: Space, prefix: number): bigint {
  const text = pool.prefixes[prefix];
  return text === undefined ? 0n : prefixBounds(text).count * BigInt(slicesOfAddress(pool).count);
}

/** All slices that the pool could have. */
export const slotTotal = (pool: Space): bigint =>
  pool.prefixes.reduce((sum, _, prefix) => sum + slotCount(pool, prefix), 0n);

export function slotAt(pool: Space, prefix: number, slot: bigint): Slot {
  const text = pool.prefixes[prefix];
  if (text === undefined || slot < 0n || slot >= slotCount(pool, prefix))
    throw new Error(`no slot ${slot} in prefix ${prefix}`);
  const { count, firstPort } = slicesOfAddress(pool);
  const first = firstPort + Number(slot % BigInt(count)) * pool.slicePorts;
  const address = prefixAddress(text, slot / BigInt(count));
  return { prefix, slot, address, ports: { first, last: first + pool.slicePorts - 1 } };
}

/** The slot that begins at this very address and port; undefined when the pool has no slice there. */
export function slotBeginningAt(pool: Space, address: Address, first: number): Slot | undefined {
  const ports = { first, last: first + pool.slicePorts - 1 };
  const prefix = pool.prefixes.findIndex((candidate) => prefixContains(candidate, address));
  const text = pool.prefixes[prefix];
  if (text === undefined || first % pool.slicePorts !== 0 || !rangeContains(pool.usablePorts, ports)) return undefined;
  const { count, firstPort } = slicesOfAddress(pool);
  const index = addressToBigInt(address) - prefixBounds(text).first;
  const slot = index * BigInt(count) + BigInt((first - firstPort) / pool.slicePorts);
  return { prefix, slot, address, ports };
}

/** The slots that the cursors have not passed, in order. Endless for all practical purposes: take what is needed. */
export function* slotsAhead(pool: Pool, family: Family | null): Generator<Slot> {
  for (const [prefix, text] of pool.prefixes.entries()) {
    if (family !== null && prefixBounds(text).family !== family) continue;
    const end = slotCount(pool, prefix);
    for (let slot = pool.cursors[prefix] ?? 0n; slot < end; slot++) yield slotAt(pool, prefix, slot);
  }
}
