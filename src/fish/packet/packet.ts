import { protocolNumber, protocols, type Protocol } from '../../net/protocol.ts';
import type { AddressBook } from './address-book.ts';
import { isRoutableUnicast, isRoutableUnicast6 } from './addresses.ts';
import { fold, sumOf } from './checksum.ts';
import { checkOptions } from './ip-options.ts';
import {
  DESTINATION6,
  ExtensionHeaders,
  FRAGMENT_HEADER,
  FRAGMENT_IDENTIFICATION,
  fragmentOffset,
  hasMoreFragments,
  isCut,
  isExtension,
  IPV6_HEADER,
  NEXT_HEADER,
  PAYLOAD_LENGTH,
  SOURCE6,
} from './ipv6-headers.ts';
import {
  DESTINATION4,
  ECHO6_REPLY,
  ECHO6_REQUEST,
  ECHO_IDENTIFIER,
  ECHO_REPLY,
  ECHO_REQUEST,
  ICMP_CHECKSUM,
  ICMP_HEADER,
  IPV4_HEADER,
  SOURCE4,
  TCP_CHECKSUM,
  TCP_HEADER,
  UDP_CHECKSUM,
  UDP_HEADER,
} from './offsets.ts';
import { checksumOffset, checksumStart, isSegmented, needsChecksum, type VnetHeaderBytes } from './vnet-header.ts';
import { DROP, FORWARD } from '../verdicts.ts';

/**
 * What a flow is of, in `Packet.protocol` and wherever else fish keeps a protocol: the IANA number, and for IPv6 the bit
 * `IPV6` with it, so that no key of one family ever equals one of the other. ICMP stands for ICMPv6, too.
 */
export const ICMP = 1;
export const TCP = 6;
export const UDP = 17;
export const IPV6 = 0x80;
export const ICMP6 = ICMP | IPV6;
export const TCP6 = TCP | IPV6;
export const UDP6 = UDP | IPV6;

export const isTcp = (protocol: number): boolean => (protocol & ~IPV6) === TCP;
export const isUdp = (protocol: number): boolean => (protocol & ~IPV6) === UDP;
/** ICMP or ICMPv6: the flows are those of echoes. */
export const isEcho = (protocol: number): boolean => (protocol & ~IPV6) === ICMP;
export const familyOfProtocol = (protocol: number): 4 | 6 => ((protocol & IPV6) === 0 ? 4 : 6);

/** The number of a lease's protocol on an address of this family. */
export const flowProtocol = (protocol: Protocol, family: 4 | 6): number =>
  protocolNumber(protocol, 4) | (family === 6 ? IPV6 : 0);

/** And back; undefined for what is none of the six. */
export const protocolName = (protocol: number): Protocol | undefined =>
  protocols.find((each) => protocolNumber(each, 4) === (protocol & ~IPV6));

/**
 * In place of a number for an address that is in no flow, no block and no list of peers, and so in no address book. It is
 * the broadcast address, which no packet that is translated has.
 */
export const NOT_KNOWN = 0xffffffff;

/** Offsets into the IPv4 header (RFC 791). */
export const IDENTIFICATION = 4;
export const HEADER_CHECKSUM = 10;
export const TIME_TO_LIVE = 8;

/** More fragments, or an offset that is not 0. The reserved bit is nobody's business here. */
const FRAGMENT_MASK = 0x3fff;
const DONT_FRAGMENT = 0x4000;
const MORE_FRAGMENTS = 0x2000;
const FRAGMENT_OFFSET = 0x1fff;
/** Fragments are cut in units of so many bytes. */
export const fragmentUnit_bytes = 8;
/** How long a packet can say that it is: of IPv4 with its header, of IPv6 without. */
const PACKET_MAX = 65_535;

export const FIN = 1;
export const SYN = 2;
export const RST = 4;
export const ACK = 16;

export const ICMP_UNREACHABLE = 3;
/** The IANA number of ICMPv6, and its types (RFC 4443): below 128 are errors, of which four are known. */
export const ICMPV6 = 58;
export const ICMP6_UNREACHABLE = 1;
const ICMP6_PARAMETER_PROBLEM = 4;

const noBytes = new Uint8Array(0);

/**
 * A view over the IP packet in a buffer. One object is used for all packets: `parse` fills it, and what it says is
 * true until the next `parse`. All offsets count from the start of the buffer. Addresses are unsigned 32-bit numbers: of IPv6
 * the address book's, or NOT_KNOWN; the bytes are at `sourceAt` and `destinationAt`.
 */
export class Packet {
  readonly #vnetHeaderBytes: VnetHeaderBytes;
  readonly #book: AddressBook;
  readonly #headers = new ExtensionHeaders();
  #buffer: Uint8Array = noBytes;

  /** Over the whole buffer, the virtio header included. */
  view: DataView = new DataView(noBytes.buffer);
  /** Where the IP header starts, and where the packet ends by its own total length. */
  start = 0;
  end = 0;
  protocol = 0;
  source = 0;
  destination = 0;
  sourceAt = 0;
  destinationAt = 0;
  /** Where the TCP, UDP or ICMP header starts, and where its checksum is. */
  transport = 0;
  checksumAt = 0;
  /** The checksum is only begun: see `updatedPartial`. */
  partial = false;
  /** Of an echo request the identifier is the source port, of a reply the destination port; the other one is 0. */
  sourcePort = 0;
  destinationPort = 0;
  sourcePortAt = 0;
  destinationPortAt = 0;
  /** An ICMP error, which has no ports of its own: see `QuotedPacket`. */
  isError = false;
  /** TCP only. */
  flags = 0;
  sequence = 0;
  acknowledgement = 0;
  /** As the header has it, not scaled. */
  window = 0;
  /** Where the options end and the data begins. */
  dataAt = 0;
  /** One of several pieces of a packet. What `transport` and the ports say is true of the first alone, that at offset 0. */
  isFragment = false;
  /** Where it was cut out, in bytes from the end of the IP header; 0 for the first, and for what was never cut. */
  fragmentOffset = 0;
  hasMoreFragments = false;
  /** It is neither cut nor to be cut, so that nobody looks at its identification (RFC 6864). */
  isAtomic = true;
  /** Only of fragments: where what was cut begins, and their identification. */
  payloadAt = 0;
  identificationAt = 0;

  /** What the sum of the IPv4 header has grown by, and its checksum does not say yet: see `settleHeader`. */
  headerDelta = 0;

  constructor(vnetHeaderBytes: VnetHeaderBytes, book: AddressBook) {
    this.#vnetHeaderBytes = vnetHeaderBytes;
    this.#book = book;
  }

  /**
   * Reads the headers in the first `length` bytes of `buffer`. FORWARD, or the reason why this is no packet that fish
   * could translate; then the view is not to be used. Bytes behind the total length, a frame's padding, are ignored.
   */
  parse(buffer: Uint8Array, length: number): number {
    if (buffer !== this.#buffer) this.#attach(buffer);
    if (length > buffer.length) return DROP.truncated;
    this.isError = false;
    this.headerDelta = 0;
    const verdict = this.#parseHeader(length);
    if (verdict !== FORWARD) return verdict;
    if (this.fragmentOffset !== 0) return this.#isCarried() ? FORWARD : DROP.protocol_unsupported;
    if (this.protocol === TCP) return this.#parseTcp();
    if (this.protocol === UDP) return this.#parseUdp();
    if (this.protocol === ICMP) return this.#parseIcmp();
    if (this.protocol === TCP6) return this.#parseTcp();
    if (this.protocol === UDP6) return this.#parseUdp();
    if (this.protocol === ICMP6) return this.#parseIcmp6();
    return DROP.protocol_unsupported;
  }

  /** The one place that allocates: the caller uses one buffer for all packets. */
  #attach(buffer: Uint8Array): void {
    this.#buffer = buffer;
    this.view = new DataView(buffer.buffer, buffer.byteOffset, buffer.byteLength);
  }

  #parseHeader(length: number): number {
    const { view } = this;
    const start = this.#vnetHeaderBytes;
    if (length <= start) return DROP.truncated;
    const version = view.getUint8(start) >>> 4;
    if (version === 6) return this.#parseHeader6(length);
    if (version !== 4) return DROP.bad_version;
    if (length < start + IPV4_HEADER) return DROP.truncated;
    // Each word of the header is read once; with a sign, because beyond 31 bits numbers that are handed on are objects.
    const first = view.getUint32(start);
    const headerBytes = ((first >>> 24) & 15) * 4;
    const totalBytes = first & 0xffff;
    if (headerBytes < IPV4_HEADER || totalBytes < headerBytes) return DROP.bad_length;
    if (start + totalBytes > length) return DROP.truncated;
    const second = view.getInt32(start + IDENTIFICATION);
    const third = view.getInt32(start + TIME_TO_LIVE);
    const source = view.getInt32(start + SOURCE4);
    const destination = view.getInt32(start + DESTINATION4);
    const optionsAt = start + IPV4_HEADER;
    const optionsEnd = start + headerBytes;
    let sum = halves(first) + halves(second) + halves(third) + halves(source) + halves(destination);
    if (optionsAt !== optionsEnd) sum += sumOf(view, optionsAt, optionsEnd);
    // Verified so that a damaged header is never given a new address and sent on; it is ten words, most often in cache.
    if (fold(sum) !== 0xffff) return DROP.bad_header_checksum;
    if (optionsAt !== optionsEnd) {
      const verdict = checkOptions(view, optionsAt, optionsEnd);
      if (verdict !== FORWARD) return verdict;
    }

    this.start = start;
    this.end = start + totalBytes;
    this.transport = optionsEnd;
    const protocol = (third >>> 16) & 0xff;
    if (protocol >= IPV6) return DROP.protocol_unsupported;
    this.protocol = protocol;
    this.sourceAt = start + SOURCE4;
    this.destinationAt = start + DESTINATION4;
    this.source = source >>> 0;
    this.destination = destination >>> 0;
    const flags = second & 0xffff;
    const cut = flags & FRAGMENT_MASK;
    this.isFragment = cut !== 0;
    this.isAtomic = (flags & (DONT_FRAGMENT | FRAGMENT_MASK)) === DONT_FRAGMENT;
    this.fragmentOffset = (cut & FRAGMENT_OFFSET) * fragmentUnit_bytes;
    if (!this.isFragment) return FORWARD;
    this.hasMoreFragments = (cut & MORE_FRAGMENTS) !== 0;
    this.payloadAt = this.transport;
    this.identificationAt = start + IDENTIFICATION;
    return this.#checkFragment(totalBytes);
  }

  /** What is true of every fragment, whatever it is of. `length`: what it would tell as its own, were it the whole. */
  #checkFragment(length: number): number {
    const bytes = this.end - this.payloadAt;
    if (bytes === 0 || this.fragmentOffset + length > PACKET_MAX) return DROP.fragment_bad_length;
    if (this.hasMoreFragments && bytes % fragmentUnit_bytes !== 0) return DROP.fragment_bad_length;
    // Nobody could complete a checksum over a part of the data, nor cut a part into segments.
    if (this.#vnetHeaderBytes !== 0 && (needsChecksum(this.view) || isSegmented(this.view)))
      return DROP.bad_vnet_header;
    return FORWARD;
  }

  /** A later fragment of IPv6 may begin with an extension header, which the first one has told of. */
  #isCarried(): boolean {
    return isCarried(this.protocol) || (this.protocol === IPV6 && isExtension(this.#headers.protocol));
  }

  /** Why headers are not all there: a first fragment has to have them (RFC 1858), or what follows could pass unseen. */
  #tooShort(): number {
    return this.isFragment ? DROP.fragment_too_small : DROP.truncated;
  }

  #parseHeader6(length: number): number {
    const { view } = this;
    const start = this.#vnetHeaderBytes;
    if (length < start + IPV6_HEADER) return DROP.truncated;
    const payloadBytes = view.getUint16(start + PAYLOAD_LENGTH);
    // Nothing at all, or a jumbogram (RFC 2675), which no device here could carry.
    if (payloadBytes === 0) return DROP.bad_length;
    const end = start + IPV6_HEADER + payloadBytes;
    if (end > length) return DROP.truncated;
    const headers = this.#headers;
    const verdict = headers.walk(view, view.getUint8(start + NEXT_HEADER), start + IPV6_HEADER, end);
    const { fragmentAt } = headers;
    // The header of a fragment that is the whole packet (RFC 6946) is one like any other.
    const isFragment = fragmentAt !== 0 && isCut(view, fragmentAt);
    if (verdict !== FORWARD) return verdict === DROP.truncated && isFragment ? DROP.fragment_too_small : verdict;
    this.start = start;
    this.end = end;
    this.transport = headers.transport;
    this.protocol = protocolOf6(headers.protocol);
    this.sourceAt = start + SOURCE6;
    this.destinationAt = start + DESTINATION6;
    this.source = this.#book.find(view, this.sourceAt);
    this.destination = this.#book.find(view, this.destinationAt);
    this.isFragment = isFragment;
    this.isAtomic = !isFragment;
    this.fragmentOffset = 0;
    if (!isFragment) return FORWARD;
    this.payloadAt = fragmentAt + FRAGMENT_HEADER;
    this.identificationAt = fragmentAt + FRAGMENT_IDENTIFICATION;
    this.fragmentOffset = fragmentOffset(view, fragmentAt);
    this.hasMoreFragments = hasMoreFragments(view, fragmentAt);
    return this.#checkFragment(payloadBytes - FRAGMENT_HEADER);
  }

  #parseTcp(): number {
    const { view, transport } = this;
    if (this.end - transport < TCP_HEADER) return this.#tooShort();
    const dataAt = transport + (view.getUint8(transport + 12) >>> 4) * 4;
    if (dataAt < transport + TCP_HEADER) return DROP.bad_length;
    if (dataAt > this.end) return this.isFragment ? DROP.fragment_too_small : DROP.bad_length;
    this.#readPorts();
    this.sequence = view.getUint32(transport + 4);
    this.acknowledgement = view.getUint32(transport + 8);
    this.flags = view.getUint8(transport + 13) & (FIN | SYN | RST | ACK);
    this.window = view.getUint16(transport + 14);
    this.dataAt = dataAt;
    // Every segment but a SYN or a RST has an ACK (RFC 9293 3.10.7); what has none of the three is somebody's probe.
    if ((this.flags & (SYN | RST | ACK)) === 0) return DROP.bad_tcp_flags;
    if ((this.flags & SYN) !== 0 && (this.flags & (FIN | RST)) !== 0) return DROP.bad_tcp_flags;
    if (this.sourcePort === 0 || this.destinationPort === 0) return DROP.port_zero;
    return this.#findChecksum(TCP_CHECKSUM);
  }

  #parseUdp(): number {
    const { view, transport } = this;
    if (this.end - transport < UDP_HEADER) return this.#tooShort();
    // Shorter than the IP payload is allowed: UDP options (RFC 9868) live in what is left over.
    const udpBytes = view.getUint16(transport + 4);
    if (udpBytes < UDP_HEADER || (udpBytes > this.end - transport && !this.isFragment)) return DROP.bad_length;
    this.#readPorts();
    if (this.sourcePort === 0 || this.destinationPort === 0) return DROP.port_zero;
    const verdict = this.#findChecksum(UDP_CHECKSUM);
    const isBare = this.protocol === UDP6 && !this.partial && view.getUint16(this.checksumAt) === 0;
    return isBare ? DROP.udp_without_checksum : verdict;
  }

  #readPorts(): void {
    this.sourcePortAt = this.transport;
    this.destinationPortAt = this.transport + 2;
    this.sourcePort = this.view.getUint16(this.sourcePortAt);
    this.destinationPort = this.view.getUint16(this.destinationPortAt);
  }

  #parseIcmp(): number {
    const { view, transport } = this;
    if (this.end - transport < ICMP_HEADER) return this.#tooShort();
    const type = view.getUint8(transport);
    this.isError = isTranslatable(type);
    if (this.isError) return this.#findChecksum(ICMP_CHECKSUM);
    if (isIcmpError(type)) return DROP.icmp_error_unusable;
    if (type !== ECHO_REQUEST && type !== ECHO_REPLY) return DROP.icmp_type_unsupported;
    return this.#readEcho(type === ECHO_REQUEST);
  }

  /** Neighbour discovery, multicast listeners and the like mean nothing beyond a link. */
  #parseIcmp6(): number {
    const { view, transport } = this;
    if (this.end - transport < ICMP_HEADER) return this.#tooShort();
    const type = view.getUint8(transport);
    this.isError = type >= ICMP6_UNREACHABLE && type <= ICMP6_PARAMETER_PROBLEM;
    if (this.isError) return this.#findChecksum(ICMP_CHECKSUM);
    if (type < ECHO6_REQUEST) return DROP.icmp_error_unusable;
    if (type !== ECHO6_REQUEST && type !== ECHO6_REPLY) return DROP.icmp_type_unsupported;
    return this.#readEcho(type === ECHO6_REQUEST);
  }

  #readEcho(isRequest: boolean): number {
    const at = this.transport + ECHO_IDENTIFIER;
    const identifier = this.view.getUint16(at);
    this.sourcePortAt = at;
    this.destinationPortAt = at;
    this.sourcePort = isRequest ? identifier : 0;
    this.destinationPort = isRequest ? 0 : identifier;
    return this.#findChecksum(ICMP_CHECKSUM);
  }

  /** By which fragments know each other, and others their packet: 16 bits of IPv4, 32 of a fragment of IPv6. */
  identification(): number {
    const at = this.identificationAt;
    return this.protocol < IPV6 ? this.view.getUint16(at) : this.view.getUint32(at);
  }

  hasRoutableSource(): boolean {
    return this.#isRoutable(this.source | 0, this.sourceAt);
  }

  hasRoutableDestination(): boolean {
    return this.#isRoutable(this.destination | 0, this.destinationAt);
  }

  #isRoutable(address: number, at: number): boolean {
    const { view } = this;
    return this.protocol < IPV6
      ? isRoutableUnicast(address)
      : isRoutableUnicast6(view.getUint32(at), view.getUint32(at + 4));
  }

  /** Only meaningful after an ICMP packet was parsed, and found to be no error. */
  isEchoRequest(): boolean {
    return this.view.getUint8(this.transport) === (this.protocol === ICMP ? ECHO_REQUEST : ECHO6_REQUEST);
  }

  #findChecksum(offset: number): number {
    const { view, transport } = this;
    this.checksumAt = transport + offset;
    this.partial = this.#vnetHeaderBytes !== 0 && needsChecksum(view);
    if (!this.partial) return FORWARD;
    // Anything else, an inner packet's checksum say, would have fish mend a field that is not the one it rewrites.
    const own = checksumStart(view) === transport - this.start && checksumOffset(view) === offset;
    return own ? FORWARD : DROP.bad_vnet_header;
  }
}

/** The two 16-bit words of a 32-bit one, added. */
const halves = (word: number): number => (word >>> 16) + (word & 0xffff);

const isCarried = (protocol: number): boolean => isTcp(protocol) || isUdp(protocol) || isEcho(protocol);

/** As flows have it, of the IANA number; without a name for what no flow has. */
const protocolOf6 = (number: number): number =>
  number === TCP ? TCP6 : number === UDP ? UDP6 : number === ICMPV6 ? ICMP6 : IPV6;

/** Unreachable (with "fragmentation needed"), time exceeded, parameter problem: for the end of a connection to hear of. */
const isTranslatable = (type: number): boolean => type === ICMP_UNREACHABLE || type === 11 || type === 12;

/** The types that quote the packet they are about (RFC 1122 3.2.2): unreachable, quench, redirect, time, parameter. */
function isIcmpError(type: number): boolean {
  return type === ICMP_UNREACHABLE || type === 4 || type === 5 || type === 11 || type === 12;
}
