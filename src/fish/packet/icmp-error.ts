import type { AddressBook } from './address-book.ts';
import { delta16, delta32, fold, updated, updatedPartial } from './checksum.ts';
import { DESTINATION6, ExtensionHeaders, fragmentOffset, IPV6_HEADER, NEXT_HEADER, SOURCE6 } from './ipv6-headers.ts';
import {
  ECHO6_REPLY,
  ECHO6_REQUEST,
  ECHO_IDENTIFIER,
  ECHO_REPLY,
  ECHO_REQUEST,
  ICMP_CHECKSUM,
  ICMP_HEADER,
  IPV4_HEADER,
  TCP_CHECKSUM,
  UDP_CHECKSUM,
} from './offsets.ts';
import { HEADER_CHECKSUM, ICMP, ICMP6, ICMPV6, IPV6, isEcho, TCP, TCP6, UDP, UDP6, type Packet } from './packet.ts';
import { replaceAddress6 } from './translate.ts';
import { DROP, FORWARD } from '../verdicts.ts';

const FRAGMENT_OFFSET_MASK = 0x1fff;
/** As much of the quoted packet's transport as an error has at least. */
const TRANSPORT_MIN = 8;

/**
 * The packet that an ICMP error quotes. One object is used for all errors: what `parse` fills in is true until the next.
 * An error has to be translated inside and out, or its receiver cannot tell which connection it is about (RFC 5508 REQ-4, REQ-5).
 */
export class QuotedPacket {
  /** As in `Packet`, and so the addresses: over IPv6 they are numbers of the address book, or NOT_KNOWN. */
  protocol = 0;
  source = 0;
  destination = 0;
  /** Of an echo both are the identifier. */
  sourcePort = 0;
  destinationPort = 0;
  readonly #book: AddressBook;
  readonly #headers = new ExtensionHeaders();
  #isRequest = false;
  #start = 0;
  #transport = 0;
  #sourceAt = 0;
  #destinationAt = 0;
  #sourcePortAt = 0;
  #destinationPortAt = 0;

  constructor(book: AddressBook) {
    this.#book = book;
  }

  /** Of an error that `Packet.parse` has found to be one: FORWARD, or why it cannot be translated. */
  parse(packet: Packet): number {
    const verdict = packet.protocol === ICMP6 ? this.#parseHeader6(packet) : this.#parseHeader(packet);
    if (verdict !== FORWARD) return verdict;
    const { view, end } = packet;
    const transport = this.#transport;
    if (end - transport < TRANSPORT_MIN) return DROP.truncated;
    if (isEcho(this.protocol)) {
      const type = view.getUint8(transport);
      this.#isRequest = type === (this.protocol === ICMP ? ECHO_REQUEST : ECHO6_REQUEST);
      if (!this.#isRequest && type !== (this.protocol === ICMP ? ECHO_REPLY : ECHO6_REPLY))
        return DROP.icmp_error_unusable;
      this.#sourcePortAt = this.#destinationPortAt = transport + ECHO_IDENTIFIER;
    } else {
      this.#sourcePortAt = transport;
      this.#destinationPortAt = transport + 2;
    }
    this.sourcePort = view.getUint16(this.#sourcePortAt);
    this.destinationPort = view.getUint16(this.#destinationPortAt);
    return FORWARD;
  }

  #parseHeader({ view, transport: icmp, end }: Packet): number {
    const start = icmp + ICMP_HEADER;
    if (end - start < IPV4_HEADER) return DROP.truncated;
    const transport = start + (view.getUint8(start) & 15) * 4;
    if (view.getUint8(start) >>> 4 !== 4 || transport < start + IPV4_HEADER) return DROP.icmp_error_unusable;
    // Only the first fragment has ports, and no other is to be complained of (RFC 1122 3.2.2).
    if ((view.getUint16(start + 6) & FRAGMENT_OFFSET_MASK) !== 0) return DROP.icmp_error_unusable;
    const protocol = view.getUint8(start + 9);
    if (protocol !== TCP && protocol !== UDP && protocol !== ICMP) return DROP.icmp_error_unusable;
    this.protocol = protocol;
    this.#start = start;
    this.#transport = transport;
    this.#sourceAt = start + 12;
    this.#destinationAt = start + 16;
    this.source = view.getUint32(this.#sourceAt);
    this.destination = view.getUint32(this.#destinationAt);
    return FORWARD;
  }

  #parseHeader6({ view, transport: icmp, end }: Packet): number {
    const start = icmp + ICMP_HEADER;
    if (end - start < IPV6_HEADER) return DROP.truncated;
    if (view.getUint8(start) >>> 4 !== 6) return DROP.icmp_error_unusable;
    const headers = this.#headers;
    const verdict = headers.walk(view, view.getUint8(start + NEXT_HEADER), start + IPV6_HEADER, end);
    if (verdict !== FORWARD) return verdict;
    if (headers.fragmentAt !== 0 && fragmentOffset(view, headers.fragmentAt) !== 0) return DROP.icmp_error_unusable;
    const { protocol } = headers;
    if (protocol !== TCP && protocol !== UDP && protocol !== ICMPV6) return DROP.icmp_error_unusable;
    this.protocol = protocol === ICMPV6 ? ICMP6 : protocol | IPV6;
    this.#start = start;
    this.#transport = headers.transport;
    this.#sourceAt = start + SOURCE6;
    this.#destinationAt = start + DESTINATION6;
    this.source = this.#book.find(view, this.#sourceAt);
    this.destination = this.#book.find(view, this.#destinationAt);
    return FORWARD;
  }

  /** Whether it could have been sent by a client, or to one: clients send echo requests, and are sent replies. */
  isPossible(isSent: boolean): boolean {
    return !isEcho(this.protocol) || this.#isRequest === isSent;
  }

  /** An error from outside about what a client sent: it is for the client, and quotes what the client knows. */
  translateInward(packet: Packet, client: number, clientPort: number): void {
    this.#rewrite(packet, packet.destinationAt, this.#sourceAt, client, this.#sourcePortAt, clientPort);
  }

  /** An error from a client, or from a router on the way to it, about what came in to a leased port. */
  translateOutward(packet: Packet, leased: number, leasedPort: number): void {
    this.#rewrite(packet, packet.sourceAt, this.#destinationAt, leased, this.#destinationPortAt, leasedPort);
  }

  /** `address`: for the error itself at `outerAt`, and for what it quotes at `addressAt`. */
  #rewrite(packet: Packet, outerAt: number, addressAt: number, address: number, portAt: number, port: number): void {
    const { view } = packet;
    const isIPv6 = packet.protocol === ICMP6;
    const portDelta = delta16(view.getUint16(portAt), port);
    view.setUint16(portAt, port);
    const outerDelta = this.#setAddress(view, outerAt, address, isIPv6);
    const addressDelta = this.#setAddress(view, addressAt, address, isIPv6);
    let headerDelta = 0;
    if (!isIPv6) {
      moveChecksum(view, packet.start + HEADER_CHECKSUM, outerDelta);
      headerDelta = moveChecksum(view, this.#start + HEADER_CHECKSUM, addressDelta);
    }
    const transportDelta = this.#moveTransportChecksum(packet, addressDelta, portDelta);
    // ICMPv6 sums the addresses that it travels between.
    const pseudoDelta = isIPv6 ? outerDelta : 0;
    const checksum = view.getUint16(packet.checksumAt);
    if (packet.partial) {
      // One that the kernel completes is summed over what is there then.
      if (isIPv6) view.setUint16(packet.checksumAt, updatedPartial(checksum, pseudoDelta));
      return;
    }
    const delta = fold(fold(fold(addressDelta + portDelta) + fold(headerDelta + transportDelta)) + pseudoDelta);
    // Of the two zeros the one that all of fish's ICMP has.
    view.setUint16(packet.checksumAt, updated(checksum, delta) || 0xffff);
  }

  #setAddress(view: DataView, at: number, address: number, isIPv6: boolean): number {
    if (isIPv6) return replaceAddress6(view, at, this.#book.words, address * 4);
    const delta = delta32(view.getUint32(at), address);
    view.setUint32(at, address);
    return delta;
  }

  /** What is quoted need not reach as far as its checksum. */
  #moveTransportChecksum({ view, end }: Packet, addressDelta: number, portDelta: number): number {
    const { protocol } = this;
    const at = this.#transport + checksumOffset(protocol);
    if (at + 2 > end) return 0;
    // ICMP over IPv4 sums no addresses, and a UDP sender may have summed nothing at all.
    if (protocol === UDP && view.getUint16(at) === 0) return 0;
    const zero = protocol === UDP || protocol === UDP6 ? 0xffff : 0;
    return moveChecksum(view, at, protocol === ICMP ? portDelta : fold(addressDelta + portDelta), zero);
  }
}

const checksumOffset = (protocol: number): number =>
  protocol === TCP || protocol === TCP6
    ? TCP_CHECKSUM
    : protocol === UDP || protocol === UDP6
      ? UDP_CHECKSUM
      : ICMP_CHECKSUM;

/** Returns by how much the field itself has grown. `zero`: how a sum of zero is written (for UDP 0 means "none", RFC 768). */
function moveChecksum(view: DataView, at: number, delta: number, zero = 0): number {
  const before = view.getUint16(at);
  const after = updated(before, delta) || zero;
  view.setUint16(at, after);
  return delta16(before, after);
}
