/** What a TCP segment says, as it is on the wire: numbers of 32 bits, a window that is not scaled yet. */
export type Segment = Readonly<{
  /** Letters of S, A, F, R. */
  flags: string;
  sequence: number;
  acknowledgement: number;
  window: number;
  bytes: number;
  /** The shift count that a SYN offers; null for none. */
  scale: number | null;
}>;

export const has = (segment: Segment, flag: 'S' | 'A' | 'F' | 'R'): boolean => segment.flags.includes(flag);

/** How much of the sequence space it takes: SYN and FIN count one each (RFC 9293 3.4). */
export const lengthOf = (segment: Segment): bigint =>
  BigInt(segment.bytes + (has(segment, 'S') ? 1 : 0) + (has(segment, 'F') ? 1 : 0));

const space = 1n << 32n;

/** The number without end that these 32 bits stand for: of all, the one nearest to `near`. */
export function unwrapped(number: number, near: bigint): bigint {
  const ahead = (((BigInt(number) - near) % space) + space) % space;
  return near + (ahead < space / 2n ? ahead : ahead - space);
}

export const wrapped = (number: bigint): number => Number(((number % space) + space) % space);

export const largest = (...numbers: readonly bigint[]): bigint => numbers.reduce((a, b) => (b > a ? b : a));
export const least = (...numbers: readonly bigint[]): bigint => numbers.reduce((a, b) => (b < a ? b : a));
