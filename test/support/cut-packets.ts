import { hexOf, onesComplementSum } from './packets.ts';
import { isIPv6Packet } from './packets6.ts';

/** Fragments made, told apart and put together the slow way, of IPv4 (RFC 791) and IPv6 (RFC 8200 4.5). */

const FRAGMENT_HEADER = 44;
const word = (value: number) => [(value >>> 8) & 255, value & 255];
const wordAt = (bytes: Uint8Array, at: number) => ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
const setWord = (bytes: Uint8Array, at: number, value: number) => bytes.set(word(value), at);

/** The header checksum, summed anew. IPv6 has none. */
export function resummed(packet: Uint8Array): Uint8Array {
  const bytes = Uint8Array.from(packet);
  if (isIPv6Packet(bytes)) return bytes;
  setWord(bytes, 10, 0);
  setWord(bytes, 10, 0xffff - onesComplementSum(bytes.subarray(0, ((bytes[0] ?? 0) & 15) * 4)));
  return bytes;
}

/** How much of a packet is in front of all its fragments, without the header of the fragment itself. */
export function headBytesOf(packet: Uint8Array): number {
  return isIPv6Packet(packet) ? head6(packet).bytes : ((packet[0] ?? 0) & 15) * 4;
}

/** Up to the header of the fragment, if it is one; else what routers look at, hop-by-hop options and routing headers. */
function head6(packet: Uint8Array): { bytes: number; next: number; nextAt: number } {
  const before = skip6(packet, [0, 43, 60]);
  return before.next === FRAGMENT_HEADER ? before : skip6(packet, [0, 43]);
}

function skip6(packet: Uint8Array, types: readonly number[]): { bytes: number; next: number; nextAt: number } {
  let nextAt = 6;
  let bytes = 40;
  while (bytes < packet.length && types.includes(packet[nextAt] ?? 0)) {
    nextAt = bytes;
    bytes += ((packet[bytes + 1] ?? 0) + 1) * 8;
  }
  return { bytes, next: packet[nextAt] ?? 0, nextAt };
}

/** Where the header of an IPv6 fragment is; undefined when it is none. */
function fragmentHeaderAt(packet: Uint8Array): number | undefined {
  const { bytes, next } = head6(packet);
  return next === FRAGMENT_HEADER && (wordAt(packet, bytes + 2) & 0xfff9) !== 0 ? bytes : undefined;
}

/** Whether anybody may look at the identification: it is a fragment, or may be cut into some. */
export const mayBeCut = (packet: Uint8Array): boolean =>
  isIPv6Packet(packet) ? fragmentHeaderAt(packet) !== undefined : (wordAt(packet, 6) & 0x7fff) !== 0x4000;

/** 0 for what is no fragment of IPv6, which has none. */
export function identificationOf(packet: Uint8Array): number {
  if (!isIPv6Packet(packet)) return wordAt(packet, 4);
  const at = fragmentHeaderAt(packet);
  return at === undefined ? 0 : ((wordAt(packet, at + 4) << 16) | wordAt(packet, at + 6)) >>> 0;
}

/** The packet with another identification, if it has one. */
export function renumbered(packet: Uint8Array, identification: number): Uint8Array {
  const bytes = Uint8Array.from(packet);
  const at = isIPv6Packet(bytes) ? fragmentHeaderAt(bytes) : 4;
  if (at === undefined) return bytes;
  if (isIPv6Packet(bytes)) bytes.set([...word(identification >>> 16), ...word(identification)], at + 4);
  else setWord(bytes, at, identification);
  return resummed(bytes);
}

/** Where a piece was cut out, how long it is, and whether more follows. */
export function pieceOf(packet: Uint8Array): { offset: number; bytes: number; hasMore: boolean } {
  const head = headBytesOf(packet);
  if (!isIPv6Packet(packet)) {
    const cut = wordAt(packet, 6);
    return { offset: (cut & 0x1fff) * 8, bytes: wordAt(packet, 2) - head, hasMore: (cut & 0x2000) !== 0 };
  }
  const cut = wordAt(packet, head + 2);
  return { offset: cut & 0xfff8, bytes: wordAt(packet, 4) + 40 - head - 8, hasMore: (cut & 1) !== 0 };
}

/** By what the fragments of one packet are known: addresses, identification, and of IPv4 the protocol. */
export const cutKeyOf = (packet: Uint8Array): string =>
  isIPv6Packet(packet)
    ? `${hexOf(packet.subarray(8, 40))} ${identificationOf(packet)}`
    : `${hexOf(packet.subarray(12, 20))} ${identificationOf(packet)} ${packet[9]}`;

/**
 * One fragment: `bytes` of what is cut from `from` on, behind the same headers. IPv6 packets get an identification only by being
 * cut.
 */
export function fragmentOf(packet: Uint8Array, from: number, bytes: number, identification = 0x1234): Uint8Array {
  const head = headBytesOf(packet);
  const end = Math.min(packet.length, head + from + bytes);
  const data = packet.subarray(head + from, end);
  if (isIPv6Packet(packet)) {
    const { next, nextAt } = head6(packet);
    const cut = [
      next,
      0,
      ...word(from | (end < packet.length ? 1 : 0)),
      ...word(identification >>> 16),
      ...word(identification),
    ];
    const fragment = Uint8Array.from([...packet.subarray(0, head), ...cut, ...data]);
    fragment[nextAt] = FRAGMENT_HEADER;
    setWord(fragment, 4, fragment.length - 40);
    return fragment;
  }
  const fragment = Uint8Array.from([...packet.subarray(0, head), ...data]);
  setWord(fragment, 2, fragment.length);
  setWord(fragment, 6, (wordAt(packet, 6) & 0xc000) | (end < packet.length ? 0x2000 : 0) | (from / 8));
  return resummed(fragment);
}

/** The packet in fragments of so many bytes of data each, the last one shorter. */
export function cut(packet: Uint8Array, bytes: number): Uint8Array[] {
  const total = packet.length - headBytesOf(packet);
  return Array.from({ length: Math.ceil(total / bytes) }, (_, i) => fragmentOf(packet, i * bytes, bytes));
}

/** What a receiver makes of fragments, in whatever order; undefined when some are missing, or are of different packets. */
export function joined(fragments: readonly Uint8Array[]): Uint8Array | undefined {
  const sorted = fragments.toSorted((a, b) => pieceOf(a).offset - pieceOf(b).offset);
  const first = sorted[0];
  if (!first || pieceOf(sorted.at(-1) ?? first).hasMore) return undefined;
  const data: number[] = [];
  for (const each of sorted) {
    const { offset, bytes } = pieceOf(each);
    if (cutKeyOf(each) !== cutKeyOf(first) || offset !== data.length) return undefined;
    data.push(...each.subarray(each.length - bytes));
  }
  const head = headBytesOf(first);
  const whole = Uint8Array.from([...first.subarray(0, head), ...data]);
  if (isIPv6Packet(first)) {
    whole[head6(first).nextAt] = first[head] ?? 0;
    setWord(whole, 4, whole.length - 40);
    return whole;
  }
  setWord(whole, 2, whole.length);
  setWord(whole, 6, wordAt(first, 6) & 0xc000);
  return resummed(whole);
}
