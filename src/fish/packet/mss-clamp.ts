import { delta16, updated } from './checksum.ts';
import { IPV6, type Packet } from './packet.ts';
import { TCP_HEADER } from './offsets.ts';
import { findOption, MAXIMUM_SEGMENT_SIZE } from './tcp-options.ts';

/** The largest segments, in bytes of data, that either end of a connection may be told to send. */
export type MssMax = Readonly<{ mssMax: number; mssMax6: number }>;

/** What no segment is larger than: nothing is lowered. */
export const anyMss = 65_535;
/** Less than Linux takes from anybody (TCP_MIN_MSS) helps nobody. */
export const mssLeast = 88;

/** IPv4 or IPv6 header, and TCP's, without options (RFC 6691). */
const headers_bytes = 40;
const headers6_bytes = 60;

/** What fits through a link, in one piece. */
export const mssThrough = (mtu: number): MssMax => ({
  mssMax: Math.max(mssLeast, mtu - headers_bytes),
  mssMax6: Math.max(mssLeast, mtu - headers6_bytes),
});

/**
 * Lowers the maximum segment size that SYNs announce to what fits through this host, so that a connection goes on also where
 * the ICMP errors that would say so are lost. It is never raised; who announces none (and is sent 536 bytes at most, over IPv6 1,220:
 * RFC 9293 3.7.1) goes on doing so.
 */
export class MssClamp {
  #max: number;
  #max6: number;
  /** SYNs that were changed. */
  clamped = 0;

  constructor({ mssMax, mssMax6 }: MssMax) {
    this.#max = mssMax;
    this.#max6 = mssMax6;
  }

  change({ mssMax, mssMax6 }: MssMax): void {
    this.#max = mssMax;
    this.#max6 = mssMax6;
  }

  /** `packet`: one with SYN, or the first fragment of one. */
  apply(packet: Packet): void {
    const { view, dataAt } = packet;
    const max = packet.protocol < IPV6 ? this.#max : this.#max6;
    let isLowered = false;
    let at = packet.transport + TCP_HEADER;
    // All of them, as receivers differ in whether the first or the last one counts.
    while ((at = findOption(view, at, dataAt, MAXIMUM_SEGMENT_SIZE)) >= 0) {
      const valueAt = at + 2;
      const announced = view.getUint16(valueAt);
      if (announced > max) {
        view.setUint16(valueAt, max);
        moveChecksum(packet, valueAt, announced, max);
        isLowered = true;
      }
      at += MAXIMUM_SEGMENT_SIZE.bytes;
    }
    if (isLowered) this.clamped++;
  }
}

/** Of a checksum that is yet to be completed only the pseudo-header is in the field, and that has not changed. */
function moveChecksum(packet: Packet, valueAt: number, from: number, to: number): void {
  if (packet.partial) return;
  const { view, checksumAt } = packet;
  const isOdd = ((valueAt - packet.transport) & 1) !== 0;
  // Across two words, the upper byte is the lower one of the first, and the lower the upper one of the second (RFC 1071 2 B).
  const delta = isOdd ? delta16(swapped(from), swapped(to)) : delta16(from, to);
  view.setUint16(checksumAt, updated(view.getUint16(checksumAt), delta));
}

const swapped = (word: number): number => ((word & 0xff) << 8) | (word >>> 8);
