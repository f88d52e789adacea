import { delta16, delta32, fold, updated } from './checksum.ts';
import { HEADER_CHECKSUM, ICMP, TCP, UDP, type Packet } from './packet.ts';
import { DROP, FORWARD } from './verdicts.ts';

/** Offsets into the ICMP error (RFC 792) and the IPv4 header that it quotes. */
const QUOTED = 8;
const FRAGMENT_OFFSET_MASK = 0x1fff;
const IPV4_HEADER_MIN = 20;
/** As much of the quoted packet's transport as an error has at least. */
const TRANSPORT_MIN = 8;
const ICMP_CHECKSUM = 2;
const ECHO_IDENTIFIER = 4;
const UDP_CHECKSUM = 6;
const TCP_CHECKSUM = 16;
const ECHO_REPLY = 0;
const ECHO_REQUEST = 8;

/**
 * The packet that an ICMP error quotes. One object is used for all errors: what `parse` fills in is true until the next.
 * An error has to be translated inside and out, or its receiver cannot tell which connection it is about (RFC 5508 REQ-4, REQ-5).
 */
export class QuotedPacket {
  protocol = 0;
  source = 0;
  destination = 0;
  /** Of an echo both are the identifier. */
  sourcePort = 0;
  destinationPort = 0;
  #isRequest = false;
  #start = 0;
  #transport = 0;
  #sourcePortAt = 0;
  #destinationPortAt = 0;

  /** Of an error that `Packet.parse` has found to be one: FORWARD, or why it cannot be translated. */
  parse(packet: Packet): number {
    const { view, end } = packet;
    const start = packet.transport + QUOTED;
    if (end - start < IPV4_HEADER_MIN) return DROP.truncated;
    const transport = start + (view.getUint8(start) & 15) * 4;
    if (view.getUint8(start) >>> 4 !== 4 || transport < start + IPV4_HEADER_MIN) return DROP.icmp_error_unusable;
    if (end - transport < TRANSPORT_MIN) return DROP.truncated;
    // Only the first fragment has ports, and no other is to be complained of (RFC 1122 3.2.2).
    if ((view.getUint16(start + 6) & FRAGMENT_OFFSET_MASK) !== 0) return DROP.icmp_error_unusable;
    this.#start = start;
    this.#transport = transport;
    this.protocol = view.getUint8(start + 9);
    this.source = view.getUint32(start + 12);
    this.destination = view.getUint32(start + 16);
    if (this.protocol === ICMP) {
      const type = view.getUint8(transport);
      if (type !== ECHO_REQUEST && type !== ECHO_REPLY) return DROP.icmp_error_unusable;
      this.#isRequest = type === ECHO_REQUEST;
      this.#sourcePortAt = this.#destinationPortAt = transport + ECHO_IDENTIFIER;
    } else if (this.protocol === TCP || this.protocol === UDP) {
      this.#sourcePortAt = transport;
      this.#destinationPortAt = transport + 2;
    } else return DROP.icmp_error_unusable;
    this.sourcePort = view.getUint16(this.#sourcePortAt);
    this.destinationPort = view.getUint16(this.#destinationPortAt);
    return FORWARD;
  }

  /** Whether it could have been sent by a client, or to one: clients send echo requests, and are sent replies. */
  isPossible(isSent: boolean): boolean {
    return this.protocol !== ICMP || this.#isRequest === isSent;
  }

  /** An error from outside about what a client sent: it is for the client, and quotes what the client knows. */
  translateInward(packet: Packet, client: number, clientPort: number): void {
    readdress(packet, packet.destinationAt, client);
    this.#rewrite(packet, this.#start + 12, client, this.#sourcePortAt, clientPort);
  }

  /** An error from a client, or from a router on the way to it, about what came in to a leased port. */
  translateOutward(packet: Packet, leased: number, leasedPort: number): void {
    readdress(packet, packet.sourceAt, leased);
    this.#rewrite(packet, this.#start + 16, leased, this.#destinationPortAt, leasedPort);
  }

  #rewrite(packet: Packet, addressAt: number, address: number, portAt: number, port: number): void {
    const { view } = packet;
    const addressDelta = delta32(view.getUint32(addressAt), address);
    const portDelta = delta16(view.getUint16(portAt), port);
    view.setUint32(addressAt, address);
    view.setUint16(portAt, port);
    const headerDelta = moveChecksum(view, this.#start + HEADER_CHECKSUM, addressDelta);
    const transportDelta = this.#moveTransportChecksum(packet, addressDelta, portDelta);
    // One that the kernel completes is summed over what is there then.
    if (packet.partial) return;
    const delta = fold(fold(addressDelta + portDelta) + fold(headerDelta + transportDelta));
    const checksum = updated(view.getUint16(packet.checksumAt), delta);
    view.setUint16(packet.checksumAt, checksum === 0 ? 0xffff : checksum);
  }

  /** What is quoted need not reach as far as its checksum. */
  #moveTransportChecksum({ view, end }: Packet, addressDelta: number, portDelta: number): number {
    const { protocol } = this;
    const at = this.#transport + (protocol === TCP ? TCP_CHECKSUM : protocol === UDP ? UDP_CHECKSUM : ICMP_CHECKSUM);
    if (at + 2 > end) return 0;
    // ICMP over IPv4 sums no addresses, and a UDP sender may have summed nothing at all.
    if (protocol === UDP && view.getUint16(at) === 0) return 0;
    return moveChecksum(view, at, protocol === ICMP ? portDelta : fold(addressDelta + portDelta));
  }
}

function readdress(packet: Packet, at: number, address: number): void {
  const { view } = packet;
  const delta = delta32(view.getUint32(at), address);
  view.setUint32(at, address);
  moveChecksum(view, packet.start + HEADER_CHECKSUM, delta);
}

/** Returns by how much the field itself has grown. */
function moveChecksum(view: DataView, at: number, delta: number): number {
  const before = view.getUint16(at);
  const after = updated(before, delta);
  view.setUint16(at, after);
  return delta16(before, after);
}
