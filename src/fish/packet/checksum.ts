/**
 * The Internet checksum (RFC 1071) and its incremental update (RFC 1624). Sums are in one's complement: 0x0000 and
 * 0xffff are the same number, and `fold` yields 0 only when everything that was added was 0.
 */

/** Adds the carries back in: any sum of up to 65,536 16-bit words becomes one word. */
export function fold(sum: number): number {
  const once = (sum & 0xffff) + (sum >>> 16);
  return (once & 0xffff) + (once >>> 16);
}

/** The folded sum of the 16-bit words from `start` to `end`; an odd last byte counts as if a zero followed it. */
export function sumOf(view: DataView, start: number, end: number): number {
  let sum = 0;
  let at = start;
  for (; at + 1 < end; at += 2) sum += view.getUint16(at);
  if (at < end) sum += view.getUint8(at) << 8;
  return fold(sum);
}

/** What a sum grows by when the word `from` becomes `to`: `~m + m'` of RFC 1624. */
export const delta16 = (from: number, to: number): number => fold((~from & 0xffff) + to);

/** As delta16, for a 32-bit word: an IPv4 address. */
export const delta32 = (from: number, to: number): number =>
  fold((~from & 0xffff) + (~(from >>> 16) & 0xffff) + (to & 0xffff) + (to >>> 16));

/**
 * A checksum field after its data grew by `delta`: HC' = ~(~HC + ~m + m'), equation 3 of RFC 1624. Equation 4, with one
 * operation less, can yield the wrong one of the two zeros. A checksum that was wrong stays wrong by the same amount.
 */
export const updated = (checksum: number, delta: number): number => ~fold((~checksum & 0xffff) + delta) & 0xffff;

/**
 * The field of a packet whose checksum the kernel or the network card has yet to complete (VIRTIO_NET_HDR_F_NEEDS_CSUM):
 * it holds the sum of the pseudo-header alone, not complemented. `delta` is that of the addresses; the
 * ports are summed later, together with the data.
 */
export const updatedPartial = (sum: number, delta: number): number => fold(sum + delta);
