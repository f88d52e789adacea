import { Allowance } from './allowance.ts';
import { sumOf } from '../packet/checksum.ts';
import { ICMP_HEADER } from '../packet/offsets.ts';
import {
  addressBytes,
  checksumWithPseudoHeader,
  copyBytes,
  headerBytes,
  sourceIn,
  writeHeader,
} from '../packet/own-packet.ts';
import { familyOfProtocol, ICMP, ICMP6_UNREACHABLE, ICMP_UNREACHABLE, ICMPV6, type Packet } from '../packet/packet.ts';
import type { VnetHeaderBytes } from '../packet/vnet-header.ts';

/** Type and code of "port unreachable": RFC 792, RFC 4443 3.1. */
const PORT_UNREACHABLE = { 4: (ICMP_UNREACHABLE << 8) | 3, 6: (ICMP6_UNREACHABLE << 8) | 4 } as const;
/** RFC 5382 REQ-4: nobody is answered any sooner. */
const hold_ms = 6_000;
const held_max = 256;
/** Of a SYN: both its headers with their options, and what it is that the error is about. */
const quotedBytes_max = 160;
const NOBODY = 0;

/**
 * SYNs from outside to leased ports that nobody uses toward their sender. Each waits for six seconds: if the client opens the
 * same connection meanwhile (RFC 5382 REQ-4), both ends do and it is forgotten, else its sender hears that the port is
 * unreachable. So many wait at the most, in a ring, and so many a second: what is more is dropped in silence.
 */
export class UnsolicitedSyns {
  readonly #allowance: Allowance;
  readonly #start: VnetHeaderBytes;
  readonly #quotes = new DataView(new ArrayBuffer(held_max * quotedBytes_max));
  readonly #quotedBytes = new Uint16Array(held_max);
  /** 0: the place is empty, or what was there was forgotten. */
  readonly #protocol = new Uint8Array(held_max);
  readonly #addressesAt = new Uint8Array(held_max);
  readonly #portsAt = new Uint8Array(held_max);
  readonly #dueMs = new Float64Array(held_max);
  /** The one that has waited longest, and how many there are from there on. */
  #first = 0;
  #count = 0;
  readonly #view: DataView;
  /** The virtio header, all zero, and the answer. */
  readonly buffer: Uint8Array;
  held = 0;
  answered = 0;

  constructor(perSecondMax: number, vnetHeaderBytes: VnetHeaderBytes) {
    this.#allowance = new Allowance(perSecondMax);
    this.#start = vnetHeaderBytes;
    this.buffer = new Uint8Array(vnetHeaderBytes + 40 + ICMP_HEADER + quotedBytes_max);
    this.#view = new DataView(this.buffer.buffer);
  }

  /** Keeps a SYN, as it came in. */
  hold(packet: Packet, nowMs: number): void {
    if (this.#count === held_max || !this.#allowance.spend(nowMs)) return;
    const bytes = Math.min(packet.end - packet.start, quotedBytes_max);
    // With options so long that the ports are beyond what is kept, nobody could tell what the answer is about.
    if (packet.transport - packet.start + 8 > bytes) return;
    const place = (this.#first + this.#count++) % held_max;
    copyBytes(packet.view, packet.start, this.#quotes, place * quotedBytes_max, bytes);
    this.#quotedBytes[place] = bytes;
    this.#protocol[place] = packet.protocol;
    this.#addressesAt[place] = packet.sourceAt - packet.start;
    this.#portsAt[place] = packet.transport - packet.start;
    this.#dueMs[place] = nowMs + hold_ms;
    this.held++;
  }

  /** A client's SYN leaves, translated: the SYN of its other end, if it was here, is not answered. */
  forget(packet: Packet): void {
    for (let i = 0; i < this.#count; i++) {
      const place = (this.#first + i) % held_max;
      if (this.#protocol[place] === packet.protocol && this.#isAnsweredBy(place, packet))
        this.#protocol[place] = NOBODY;
    }
  }

  /** Writes the next answer that is due to `buffer`; its length, or 0 when none is. */
  due(nowMs: number): number {
    while (this.#count > 0 && this.#dueMs[this.#first]! <= nowMs) {
      const place = this.#first;
      this.#first = (this.#first + 1) % held_max;
      this.#count--;
      if (this.#protocol[place] !== NOBODY) return this.#answer(place);
    }
    return 0;
  }

  /** Whether the packet goes where the SYN came from, from where that went to. */
  #isAnsweredBy(place: number, { view, protocol, sourceAt, destinationAt, transport }: Packet): boolean {
    const quoted = place * quotedBytes_max;
    const bytes = addressBytes(protocol);
    const from = quoted + this.#addressesAt[place]!;
    const ports = quoted + this.#portsAt[place]!;
    const quotes = this.#quotes;
    if (quotes.getUint16(ports) !== view.getUint16(transport + 2)) return false;
    if (quotes.getUint16(ports + 2) !== view.getUint16(transport)) return false;
    return same(quotes, from, view, destinationAt, bytes) && same(quotes, from + bytes, view, sourceAt, bytes);
  }

  #answer(place: number): number {
    const protocol = this.#protocol[place]!;
    const family = familyOfProtocol(protocol);
    const view = this.#view;
    const start = this.#start;
    const quoted = place * quotedBytes_max;
    const icmp = start + headerBytes(protocol);
    const end = icmp + ICMP_HEADER + this.#quotedBytes[place]!;
    copyBytes(this.#quotes, quoted, view, icmp + ICMP_HEADER, this.#quotedBytes[place]!);
    const bytes = addressBytes(protocol);
    const from = quoted + this.#addressesAt[place]!;
    copyBytes(this.#quotes, from + bytes, view, start + sourceIn(protocol), bytes);
    copyBytes(this.#quotes, from, view, start + sourceIn(protocol) + bytes, bytes);
    writeHeader(view, start, end, family, family === 4 ? ICMP : ICMPV6, 0);
    view.setUint16(icmp, PORT_UNREACHABLE[family]);
    view.setUint16(icmp + 2, 0);
    view.setUint32(icmp + 4, 0);
    const checksum =
      family === 4 ? ~sumOf(view, icmp, end) & 0xffff : checksumWithPseudoHeader(view, start, end, family, ICMPV6);
    view.setUint16(icmp + 2, checksum);
    this.answered++;
    return end;
  }
}

function same(a: DataView, aAt: number, b: DataView, bAt: number, bytes: number): boolean {
  for (let i = 0; i < bytes; i += 4) if (a.getUint32(aAt + i) !== b.getUint32(bAt + i)) return false;
  return true;
}
