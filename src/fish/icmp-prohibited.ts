import { ipv4ToNumber, type Address } from '../net/address.ts';
import { sumOf } from './checksum.ts';
import { HEADER_CHECKSUM, ICMP, ICMP_UNREACHABLE, type Packet } from './packet.ts';
import type { VnetHeaderBytes } from './vnet-header.ts';

const COMMUNICATION_PROHIBITED = 13;
/** RFC 1812 4.3.2.3: as much of the packet as fits into 576 bytes. */
const MESSAGE_BYTES_MAX = 576;
const IP_HEADER = 20;
const ICMP_HEADER = 8;
/** RFC 1812 4.3.2.5: errors travel with precedence 6, internetwork control. */
const TYPE_OF_SERVICE = 0xc0;
const DONT_FRAGMENT = 0x4000;
const TIME_TO_LIVE = 64;

/**
 * Writes the answer to a packet that fish could not give a source: ICMP destination unreachable, communication
 * administratively prohibited (RFC 1812 5.2.7.1), which ends a client's connect() at once instead of in two minutes.
 * At most so many per second, in bursts of as many.
 */
export class ProhibitedReply {
  readonly #source: number;
  readonly #perSecondMax: number;
  readonly #start: VnetHeaderBytes;
  readonly #view: DataView;
  #tokens: number;
  #refilledMs = 0;

  /** The virtio header, all zero, and the packet. */
  readonly buffer: Uint8Array;
  sent = 0;
  suppressed = 0;

  constructor(source: Address | null, perSecondMax: number, vnetHeaderBytes: VnetHeaderBytes) {
    this.#source = source === null ? 0 : ipv4ToNumber(source);
    this.#perSecondMax = source === null ? 0 : perSecondMax;
    this.#tokens = this.#perSecondMax;
    this.#start = vnetHeaderBytes;
    this.buffer = new Uint8Array(vnetHeaderBytes + MESSAGE_BYTES_MAX);
    this.#view = new DataView(this.buffer.buffer);
  }

  /** Fills `buffer` with the answer to `packet`, not yet translated; its length, or 0 when it is not to be sent. */
  write(packet: Packet, nowMs: number): number {
    if (!this.#spend(nowMs)) {
      this.suppressed++;
      return 0;
    }
    this.sent++;
    const view = this.#view;
    const start = this.#start;
    const icmp = start + IP_HEADER;
    const quoteAt = icmp + ICMP_HEADER;
    const quoted = Math.min(packet.end - packet.start, MESSAGE_BYTES_MAX - IP_HEADER - ICMP_HEADER);
    const end = quoteAt + quoted;
    for (let i = 0; i < quoted; i++) view.setUint8(quoteAt + i, packet.view.getUint8(packet.start + i));

    view.setUint16(start, 0x4500 | TYPE_OF_SERVICE);
    view.setUint16(start + 2, end - start);
    view.setUint32(start + 4, DONT_FRAGMENT);
    view.setUint16(start + 8, (TIME_TO_LIVE << 8) | ICMP);
    view.setUint16(start + HEADER_CHECKSUM, 0);
    view.setUint32(start + 12, this.#source);
    view.setUint32(start + 16, packet.source);
    view.setUint16(start + HEADER_CHECKSUM, ~sumOf(view, start, icmp) & 0xffff);

    view.setUint16(icmp, (ICMP_UNREACHABLE << 8) | COMMUNICATION_PROHIBITED);
    view.setUint16(icmp + 2, 0);
    view.setUint32(icmp + 4, 0);
    view.setUint16(icmp + 2, ~sumOf(view, icmp, end) & 0xffff);
    return end;
  }

  #spend(nowMs: number): boolean {
    const gained = ((nowMs - this.#refilledMs) / 1_000) * this.#perSecondMax;
    this.#tokens = Math.min(this.#perSecondMax, this.#tokens + gained);
    this.#refilledMs = nowMs;
    if (this.#tokens < 1) return false;
    this.#tokens--;
    return true;
  }
}
