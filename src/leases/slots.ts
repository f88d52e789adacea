import { addressToBigInt, type Address, type Family } from '../net/address.ts';
import { rangeContains, type PortRange } from '../net/ports.ts';
import { prefixAddress, prefixBounds, prefixContains } from '../net/prefix.ts';
import { isCut, runsOf, type Cut } from './carve-outs.ts';
import type { Pool } from './model.ts';

/**
 * The slices that a pool could ever have, counted instead of stored: slot n of a prefix is one address and one aligned
 * port range, ports first. A /48 has 2^85 of them, hence bigint; only those that were assigned once have a row.
 */
export type Slot = Readonly<{ prefix: number; slot: bigint; address: Address; ports: PortRange }>;

type Geometry = Pick<Pool, 'slicePorts' | 'usablePorts'>;
type Space = Geometry & Pick<Pool, 'prefixes'>;
type CarvedSpace = Space & Pick<Pool, 'carveOuts'>;

/** How many whole slices the usable port range has, and where the first begins. Ports beside them belong to none. */
function slicesOfAddress({ slicePorts, usablePorts }: Geometry): Readonly<{ count: number; firstPort: number }> {
  const first = Math.ceil(usablePorts.first / slicePorts);
  const end = Math.floor((usablePorts.last + 1) / slicePorts);
  return { count: Math.max(0, end - first), firstPort: first * slicePorts };
}

export function slotCount(pool: Space, prefix: number): bigint {
  const text = pool.prefixes[prefix];
  return text === undefined ? 0n : prefixBounds(text).count * BigInt(slicesOfAddress(pool).count);
}

/** All slices that the pool could have. */
export function slotTotal(pool: CarvedSpace): bigint {
  let total = 0n;
  for (const prefix of pool.prefixes.keys())
    for (const { first, last, cuts } of runsOf(pool, prefix))
      total += (last - first + 1n) * BigInt(placesOf(pool, cuts).length);
  return total;
}

/** Which of the slices of an address can be handed out where these cuts are: their numbers, in order. */
function placesOf(pool: Geometry, cuts: readonly Cut[]): readonly number[] {
  const { count, firstPort } = slicesOfAddress(pool);
  if (cuts.some(({ ports }) => ports === null)) return [];
  const places = Array.from({ length: count }, (_, place) => place);
  if (cuts.length === 0) return places;
  return places.filter((place) => {
    const first = firstPort + place * pool.slicePorts;
    return !isCut(cuts, { first, last: first + pool.slicePorts - 1 });
  });
}

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

/** The first slot of the first address of the prefix that is at or above this one. */
export function slotFrom(pool: Space, prefix: number, address: bigint): bigint {
  const text = pool.prefixes[prefix];
  const first = text === undefined ? address : prefixBounds(text).first;
  return address <= first ? 0n : (address - first) * BigInt(slicesOfAddress(pool).count);
}

/**
 * The slots that the cursors have not passed and that nothing carves out, in order. Endless for all practical purposes:
 * take what is needed. A run of addresses of which nothing is left is stepped over at once, however long it is.
 */
export function* slotsAhead(pool: Pool, family: Family | null): Generator<Slot> {
  const count = BigInt(slicesOfAddress(pool).count);
  for (const [prefix, text] of pool.prefixes.entries()) {
    const bounds = prefixBounds(text);
    if (family !== null && bounds.family !== family) continue;
    const cursor = pool.cursors[prefix] ?? 0n;
    for (const run of runsOf(pool, prefix)) {
      const places = placesOf(pool, run.cuts);
      const begin = run.first - bounds.first;
      const end = places.length === 0 ? begin : run.last - bounds.first + 1n;
      for (let index = maxOf(begin, cursor / count); index < end; index++)
        for (const place of places) {
          const slot = index * count + BigInt(place);
          if (slot >= cursor) yield slotAt(pool, prefix, slot);
        }
    }
  }
}

const maxOf = (a: bigint, b: bigint): bigint => (a > b ? a : b);
