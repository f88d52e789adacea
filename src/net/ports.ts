import { err, ok, type Result } from './result.ts';

/** An inclusive run of ports (or of ICMP echo identifiers): 0 ≤ first ≤ last ≤ 65535. */
export type PortRange = Readonly<{ first: number; last: number }>;

export const portMax = 65_535;

export const portCount = (range: PortRange): number => range.last - range.first + 1;
export const isPort = (port: number): boolean => Number.isInteger(port) && port >= 0 && port <= portMax;
export const isPowerOfTwo = (n: number): boolean => Number.isInteger(n) && n > 0 && (n & (n - 1)) === 0;
export const rangeContains = (outer: PortRange, inner: PortRange): boolean =>
  outer.first <= inner.first && inner.last <= outer.last;
export const rangesOverlap = (a: PortRange, b: PortRange): boolean => a.first <= b.last && b.first <= a.last;

/** 0 for 1, 1 for 2, 2 for 3 and 4 …: the exponent of the smallest power of two that holds `n` ports. */
export const ceilLog2 = (n: number): number => (n <= 1 ? 0 : 32 - Math.clz32(n - 1));

/** The block of 2^order ports at `first`; `first` must be a multiple of its size. */
export const blockAt = (first: number, order: number): PortRange => ({ first, last: first + 2 ** order - 1 });

/**
 * An aligned power-of-two block is the only shape that the kernel matches with one hash lookup
 * (`th dport & mask` in an nftables hash set), which is why slices and leases all have it.
 */
export const isAlignedBlock = (range: PortRange): boolean =>
  isPowerOfTwo(portCount(range)) && range.first % portCount(range) === 0;

/** The first port of the lowest aligned block of 2^order ports inside `range`, or undefined when none fits. */
export function lowestFit(range: PortRange, order: number): number | undefined {
  const size = 2 ** order;
  const first = Math.ceil(range.first / size) * size;
  return first + size - 1 <= range.last ? first : undefined;
}

/** The exponent of the largest aligned block inside `range`: what the biggest lease is that this free extent can serve. */
export function largestFit(range: PortRange): number {
  for (let order = 16; order > 0; order--) if (lowestFit(range, order) !== undefined) return order;
  return 0;
}

/** The mask that keeps the block number of a port: 128 ports → 0xff80. */
export const blockMask = (size: number): number => ~(size - 1) & 0xffff;

/** `9000` or `9000-9009`. */
export const formatPorts = (range: PortRange): string =>
  range.first === range.last ? `${range.first}` : `${range.first}-${range.last}`;

export function parsePorts(text: string): Result<PortRange, string> {
  const match = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(text);
  const first = Number(match?.[1]);
  const last = Number(match?.[2] ?? match?.[1]);
  if (!match || first > last || last > portMax) return err(`"${text}" is not a port or a range like 9000-9127`);
  return ok({ first, last });
}
