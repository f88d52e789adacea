import { ClientAllowance } from './client-allowance.ts';
import { IPV6_HEADER } from '../packet/ipv6-headers.ts';
import { TCP_CHECKSUM, TCP_HEADER } from '../packet/offsets.ts';
import {
  addressBytes,
  checksumWithPseudoHeader,
  copyBytes,
  headerBytes,
  sourceIn,
  writeHeader,
} from '../packet/own-packet.ts';
import { ACK, familyOfProtocol, RST, TCP, type Packet } from '../packet/packet.ts';
import type { VnetHeaderBytes } from '../packet/vnet-header.ts';
import type { Subscribers } from '../ports/subscribers.ts';

/**
 * Writes the reset that a host would answer a SYN with whose port nobody listens on (RFC 9293 3.10.7.1): from the remote, its
 * sequence number 0, acknowledging the SYN and the data in it. So a client's connect() ends with "connection refused", by
 * every program understood, also where ICMP does not reach it. At most so many per second: see `ClientAllowance`.
 */
export class ResetReply {
  readonly #start: VnetHeaderBytes;
  readonly #allowance: ClientAllowance;
  readonly #view: DataView;
  /** The virtio header, all zero, and the packet. */
  readonly buffer: Uint8Array;
  sent = 0;
  suppressed = 0;

  constructor(
    perSecondMax: number,
    vnetHeaderBytes: VnetHeaderBytes,
    subscribers: Pick<Subscribers, 'ofSource'>,
    random: () => number,
  ) {
    this.#start = vnetHeaderBytes;
    this.#allowance = new ClientAllowance(perSecondMax, subscribers, random);
    this.buffer = new Uint8Array(vnetHeaderBytes + IPV6_HEADER + TCP_HEADER);
    this.#view = new DataView(this.buffer.buffer);
  }

  /** Fills `buffer` with the answer to a SYN, not yet translated; its length, or 0 when it is not to be sent. */
  write(packet: Packet, nowMs: number): number {
    if (!this.#allowance.spend(packet, nowMs)) {
      this.suppressed++;
      return 0;
    }
    this.sent++;
    const { protocol } = packet;
    const family = familyOfProtocol(protocol);
    const view = this.#view;
    const start = this.#start;
    const tcp = start + headerBytes(protocol);
    const end = tcp + TCP_HEADER;
    const sourceAt = start + sourceIn(protocol);
    const bytes = addressBytes(protocol);
    copyBytes(packet.view, packet.destinationAt, view, sourceAt, bytes);
    copyBytes(packet.view, packet.sourceAt, view, sourceAt + bytes, bytes);
    writeHeader(view, start, end, family, TCP, 0);

    view.setUint16(tcp, packet.destinationPort);
    view.setUint16(tcp + 2, packet.sourcePort);
    view.setUint32(tcp + 4, 0);
    view.setUint32(tcp + 8, packet.sequence + 1 + (packet.end - packet.dataAt));
    view.setUint16(tcp + 12, ((TCP_HEADER / 4) << 12) | RST | ACK);
    // Window, checksum and urgent pointer.
    view.setUint16(tcp + 14, 0);
    view.setUint32(tcp + TCP_CHECKSUM, 0);
    view.setUint16(tcp + TCP_CHECKSUM, checksumWithPseudoHeader(view, start, end, family, TCP));
    return end;
  }
}
