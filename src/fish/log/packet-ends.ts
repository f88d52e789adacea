import { ExtensionHeaders, fragmentOffset, IPV6_HEADER, isCut, NEXT_HEADER } from '../packet/ipv6-headers.ts';

const [ICMP, TCP, UDP, ICMPV6] = [1, 6, 17, 58];
const IPV4_HEADER_MIN = 20;
/** As much of a TCP, UDP or ICMP header as is translated, or told of. */
const TRANSPORT_MAX = 20;
/** As much of it as has the ports, or an echo's identifier. */
const TRANSPORT_MIN = 8;
/** Of ICMP: unreachable, source quench, redirect, time exceeded, parameter problem quote the packet they are about. */
const quoting4: readonly number[] = [3, 4, 5, 11, 12];
/** Echo request and reply, and the last of the types that are errors (RFC 4443). */
const [ECHO4, ECHO_REPLY4, ECHO6, ECHO_REPLY6, ERROR6_MAX] = [8, 0, 128, 129, 127];
const UNKNOWN = -1;
const noBytes = new DataView(new ArrayBuffer(0));

/**
 * Who sends to whom, as far as the bytes of a packet say, for somebody who wants to see it: also of what fish drops for what is
 * wrong with it. One object is used for many packets; what `read` fills in is true until the next, or until the bytes change. Offsets
 * are those of the buffer.
 */
export class PacketEnds {
  family: 4 | 6 = 4;
  /** The IANA number of what follows the headers of IP. */
  protocol = 0;
  sourceAt = 0;
  destinationAt = 0;
  /** Of an address. */
  addressBytes = 4;
  /** Of an echo both are the identifier; -1 where the packet has none, or is not the first fragment. */
  sourcePort = UNKNOWN;
  destinationPort = UNKNOWN;
  /** Where the transport's header begins. */
  transport = 0;
  /** Where the packet ends, or what there is of it. */
  end = 0;
  /** In bytes; -1: no fragment. */
  fragmentAt = UNKNOWN;
  /** Of fragments. */
  identificationAt = 0;
  identificationBytes = 2;
  /** Behind the last byte that a translation can change. */
  headersEnd = 0;
  /** What an ICMP error quotes, or null. */
  quoted: PacketEnds | null = null;
  view: DataView = noBytes;
  readonly #headers = new ExtensionHeaders();
  #quoted: PacketEnds | null = null;

  /** Of the packet from `start` on; false when it is none. No error is about an error, so what is quoted quotes nothing. */
  read(view: DataView, start: number, end: number, isQuoted = false): boolean {
    this.view = view;
    this.quoted = null;
    this.sourcePort = this.destinationPort = this.fragmentAt = UNKNOWN;
    this.end = end;
    if (end - start < 1) return false;
    const version = view.getUint8(start) >>> 4;
    if (version === 4 ? !this.#read4(view, start) : version !== 6 || !this.#read6(view, start)) return false;
    this.headersEnd = Math.min(end, this.transport + TRANSPORT_MAX);
    if (this.fragmentAt <= 0) this.#readTransport(view, isQuoted);
    return true;
  }

  #read4(view: DataView, start: number): boolean {
    const { end } = this;
    if (end - start < IPV4_HEADER_MIN) return false;
    this.family = 4;
    this.addressBytes = 4;
    this.protocol = view.getUint8(start + 9);
    this.sourceAt = start + 12;
    this.destinationAt = start + 16;
    this.transport = start + Math.max(IPV4_HEADER_MIN, (view.getUint8(start) & 15) * 4);
    const cut = view.getUint16(start + 6);
    if ((cut & 0x3fff) !== 0) this.fragmentAt = (cut & 0x1fff) * 8;
    this.identificationAt = start + 4;
    this.identificationBytes = 2;
    return true;
  }

  #read6(view: DataView, start: number): boolean {
    const { end } = this;
    if (end - start < IPV6_HEADER) return false;
    this.family = 6;
    this.addressBytes = 16;
    this.sourceAt = start + 8;
    this.destinationAt = start + 24;
    const headers = this.#headers;
    const first = view.getUint8(start + NEXT_HEADER);
    headers.walk(view, first, start + IPV6_HEADER, end);
    const isWalked = headers.transport !== 0;
    this.protocol = isWalked ? headers.protocol : first;
    // Where it cannot be followed nothing is read behind the header, nor translated.
    this.transport = isWalked ? headers.transport : start + IPV6_HEADER;
    const { fragmentAt } = headers;
    if (!isWalked || fragmentAt === 0 || !isCut(view, fragmentAt)) return true;
    this.fragmentAt = fragmentOffset(view, fragmentAt);
    this.identificationAt = fragmentAt + 4;
    this.identificationBytes = 4;
    return true;
  }

  #readTransport(view: DataView, isQuoted: boolean): void {
    const { transport, end, protocol } = this;
    if (end - transport < TRANSPORT_MIN) return;
    if (protocol === TCP || protocol === UDP) {
      this.sourcePort = view.getUint16(transport);
      this.destinationPort = view.getUint16(transport + 2);
      return;
    }
    if (protocol !== ICMP && protocol !== ICMPV6) return;
    const type = view.getUint8(transport);
    if (protocol === ICMP ? type === ECHO4 || type === ECHO_REPLY4 : type === ECHO6 || type === ECHO_REPLY6)
      this.sourcePort = this.destinationPort = view.getUint16(transport + 4);
    else if (!isQuoted && (protocol === ICMP ? quoting4.includes(type) : type <= ERROR6_MAX)) this.#readQuoted(view);
  }

  #readQuoted(view: DataView): void {
    const quoted = (this.#quoted ??= new PacketEnds());
    if (!quoted.read(view, this.transport + TRANSPORT_MIN, this.end, true)) return;
    this.quoted = quoted;
    this.headersEnd = quoted.headersEnd;
  }

  /** Of its bytes: it is that of either end. */
  hasAddress(address: Uint8Array): boolean {
    if (address.length !== this.addressBytes) return false;
    return this.#isAt(this.sourceAt, address) || this.#isAt(this.destinationAt, address);
  }

  #isAt(at: number, address: Uint8Array): boolean {
    for (let i = 0; i < address.length; i++) if (this.view.getUint8(at + i) !== address[i]) return false;
    return true;
  }

  hasPort(port: number): boolean {
    return this.sourcePort === port || this.destinationPort === port;
  }

  /** Of a fragment: what tells those of its packet from all others (RFC 791, 8200). */
  cutPacket(): string {
    const { view } = this;
    const bytesAt = (at: number, length: number) => new Uint8Array(view.buffer, view.byteOffset + at, length).join('.');
    const addresses = bytesAt(this.sourceAt, 2 * this.addressBytes);
    const identification = bytesAt(this.identificationAt, this.identificationBytes);
    return `${addresses} ${this.family === 4 ? this.protocol : ''} ${identification}`;
  }
}
