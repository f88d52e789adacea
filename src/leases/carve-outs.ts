import { addressToBigInt, type Address } from '../net/address.ts';
import { rangesOverlap, type PortRange } from '../net/ports.ts';
import { prefixBounds, prefixesOverlap } from '../net/prefix.ts';
import type { Pool } from './model.ts';

/**
 * What a pool never hands out. A slice is left out as soon as one of its ports on its address is; prefixes being nested or
 * disjoint, the addresses of a pool fall into few runs that are all treated alike.
 */
export type Cut = Readonly<{ first: bigint; last: bigint; ports: PortRange | null }>;
type Carved = Pick<Pool, 'prefixes' | 'carveOuts'>;

/** The carve-outs that touch one of the pool's prefixes, as numbers. */
export function cutsIn(pool: Carved, prefix: number): readonly Cut[] {
  const within = pool.prefixes[prefix];
  if (within === undefined) return [];
  return pool.carveOuts
    .filter((carveOut) => prefixesOverlap(carveOut.prefix, within))
    .map((carveOut) => {
      const { first, count } = prefixBounds(carveOut.prefix);
      return { first, last: first + count - 1n, ports: carveOut.ports };
    });
}

export const cutsAt = (cuts: readonly Cut[], address: bigint): readonly Cut[] =>
  cuts.filter(({ first, last }) => first <= address && address <= last);

export const isCut = (here: readonly Cut[], ports: PortRange): boolean =>
  here.some((cut) => cut.ports === null || rangesOverlap(cut.ports, ports));

/** Whether a slice with this place is one that the pool no longer hands out: carved out, or of a prefix that it gave up. */
export function isWithheld(
  pool: Carved,
  { address, ports }: Readonly<{ address: Address; ports: PortRange }>,
): boolean {
  const value = addressToBigInt(address);
  const prefix = pool.prefixes.findIndex((candidate) => {
    const { first, count, family } = prefixBounds(candidate);
    return (family === 6) === address.includes(':') && first <= value && value < first + count;
  });
  return prefix === -1 || isCut(cutsAt(cutsIn(pool, prefix), value), ports);
}

/** Runs of addresses of a prefix that have the same cuts, from the first to the last. */
export function* runsOf(
  pool: Carved,
  prefix: number,
): Generator<Readonly<{ first: bigint; last: bigint; cuts: readonly Cut[] }>> {
  const text = pool.prefixes[prefix];
  if (text === undefined) return;
  const { first, count } = prefixBounds(text);
  const cuts = cutsIn(pool, prefix);
  const begins = new Set([first, ...cuts.flatMap((cut) => [cut.first, cut.last + 1n])]);
  const inside = [...begins]
    .filter((begin) => first <= begin && begin < first + count)
    .sort((a, b) => (a < b ? -1 : 1));
  for (const [index, begin] of inside.entries())
    yield { first: begin, last: (inside[index + 1] ?? first + count) - 1n, cuts: cutsAt(cuts, begin) };
}
