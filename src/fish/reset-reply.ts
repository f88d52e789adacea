import { Allowance } from './allowance.ts';
import { fold, sumOf } from './checksum.ts';
import { ACK, HEADER_CHECKSUM, RST, TCP, type Packet } from './packet.ts';
import type { VnetHeaderBytes } from './vnet-header.ts';

const IP_HEADER = 20;
const TCP_HEADER = 20;
const TCP_CHECKSUM = 16;
const DONT_FRAGMENT = 0x4000;
const TIME_TO_LIVE = 64;

/**
 * Writes the reset that a host would answer a SYN with whose port nobody listens on (RFC 9293 3.10.7.1): from the remote, its
 * sequence number 0, acknowledging the SYN and the data in it. So a client's connect() ends with "connection refused", by
 * every program understood, also where ICMP does not reach it. At most so many per second, in bursts of as many.
 */
export class ResetReply {
  readonly #start: VnetHeaderBytes;
  readonly #allowance: Allowance;
  readonly #view: DataView;
  /** The virtio header, all zero, and the packet. */
  readonly buffer: Uint8Array;
  sent = 0;
  suppressed = 0;

  constructor(perSecondMax: number, vnetHeaderBytes: VnetHeaderBytes) {
    this.#start = vnetHeaderBytes;
    this.#allowance = new Allowance(perSecondMax);
    this.buffer = new Uint8Array(vnetHeaderBytes + IP_HEADER + TCP_HEADER);
    this.#view = new DataView(this.buffer.buffer);
  }

  /** Fills `buffer` with the answer to a SYN, not yet translated; its length, or 0 when it is not to be sent. */
  write(packet: Packet, nowMs: number): number {
    if (!this.#allowance.spend(nowMs)) {
      this.suppressed++;
      return 0;
    }
    this.sent++;
    const view = this.#view;
    const start = this.#start;
    const tcp = start + IP_HEADER;
    const end = tcp + TCP_HEADER;
    view.setUint16(start, 0x4500);
    view.setUint16(start + 2, end - start);
    view.setUint32(start + 4, DONT_FRAGMENT);
    view.setUint16(start + 8, (TIME_TO_LIVE << 8) | TCP);
    view.setUint16(start + HEADER_CHECKSUM, 0);
    view.setUint32(start + 12, packet.destination);
    view.setUint32(start + 16, packet.source);
    view.setUint16(start + HEADER_CHECKSUM, ~sumOf(view, start, tcp) & 0xffff);

    view.setUint16(tcp, packet.destinationPort);
    view.setUint16(tcp + 2, packet.sourcePort);
    view.setUint32(tcp + 4, 0);
    view.setUint32(tcp + 8, packet.sequence + 1 + (packet.end - packet.dataAt));
    view.setUint16(tcp + 12, ((TCP_HEADER / 4) << 12) | RST | ACK);
    // Window, checksum and urgent pointer.
    view.setUint16(tcp + 14, 0);
    view.setUint32(tcp + TCP_CHECKSUM, 0);
    // The pseudo-header: both addresses, the protocol and the length.
    const pseudo = sumOf(view, start + 12, tcp) + TCP + TCP_HEADER;
    view.setUint16(tcp + TCP_CHECKSUM, ~fold(pseudo + sumOf(view, tcp, end)) & 0xffff);
    return end;
  }
}
