import type { AddressBook } from './packet/address-book.ts';
import { NONE, RESTING, type FlowTable } from './flows/flow-table.ts';
import { QuotedPacket } from './packet/icmp-error.ts';
import type { MappingKeys } from './flows/mapping.ts';
import { isUdp, type Packet } from './packet/packet.ts';
import type { PeerFilter } from './flows/peer-filter.ts';
import { DROP, FORWARD } from './verdicts.ts';

type ErrorParts = Readonly<{
  book: AddressBook;
  flows: FlowTable;
  keys: MappingKeys;
  peers: PeerFilter;
}>;

/**
 * ICMP errors, each translated together with the packet that it quotes, by whose flow it finds its way. An error changes nothing
 * about that flow: anybody could have made it up (RFC 5508 REQ-6). Who may send one was asked before.
 */
export class ErrorPath {
  readonly #parts: ErrorParts;
  readonly #quoted: QuotedPacket;

  constructor(parts: ErrorParts) {
    this.#parts = parts;
    this.#quoted = new QuotedPacket(parts.book);
  }

  /** From outside, about what a client has sent. */
  inward(packet: Packet): number {
    const verdict = this.#parse(packet, true);
    if (verdict !== FORWARD) return verdict;
    const quoted = this.#quoted;
    const flow = this.#flowOfSent(quoted.destination | 0, quoted.destinationPort);
    if (flow < 0) return -flow;
    this.#tellClient(packet, flow);
    return FORWARD;
  }

  /** About what a client was sent; also from a router on the way to it, whose address is nobody's business outside. */
  outward(packet: Packet): number {
    const verdict = this.#parse(packet, false);
    if (verdict !== FORWARD) return verdict;
    const flow = this.#flowOfReceived();
    if (flow < 0) return -flow;
    this.#tellRemote(packet, flow);
    return FORWARD;
  }

  /** From a client about what another one has sent it: translated both ways, as what it quotes was. */
  hairpin(packet: Packet): number {
    const verdict = this.#parse(packet, false);
    if (verdict !== FORWARD) return verdict;
    const received = this.#flowOfReceived();
    if (received < 0) return -received;
    const { leased, leasedPort } = this.#parts.flows;
    // Flows are rows of every column.
    const sent = this.#flowOfSent(leased[received]! | 0, leasedPort[received]!);
    if (sent < 0) return -sent;
    this.#tellRemote(packet, received);
    this.#tellClient(packet, sent);
    return FORWARD;
  }

  /** What is quoted has to come from where the error goes. */
  #parse(packet: Packet, isSent: boolean): number {
    const quoted = this.#quoted;
    const verdict = quoted.parse(packet);
    if (verdict !== FORWARD) return verdict;
    return quoted.source === packet.destination && quoted.isPossible(isSent) ? FORWARD : DROP.no_flow;
  }

  #tellClient(packet: Packet, flow: number): void {
    const { client, clientPort } = this.#parts.flows;
    this.#quoted.translateInward(packet, client[flow]!, clientPort[flow]!);
  }

  #tellRemote(packet: Packet, flow: number): void {
    const { leased, leasedPort } = this.#parts.flows;
    this.#quoted.translateOutward(packet, leased[flow]!, leasedPort[flow]!);
  }

  /** The flow of the quoted packet, which a client has sent to this remote; or the negated reason why there is none. */
  #flowOfSent(toBits: number, toPort: number): number {
    const to = toBits >>> 0;
    const { protocol, source, sourcePort } = this.#quoted;
    const { flows, keys, peers } = this.#parts;
    const [remote, remotePort] = [keys.remoteOf(protocol, to | 0), keys.remotePortOf(protocol, toPort)];
    const flow = flows.findByLeased(protocol, source | 0, sourcePort, remote | 0, remotePort);
    if (flow === NONE) return -DROP.no_flow;
    if (flows.state[flow] === RESTING) return -DROP.resting;
    return isUdp(protocol) && !peers.has(flow, to, toPort) ? -DROP.filtered : flow;
  }

  /** The flow of the quoted packet, which a client was sent; or the negated reason why there is none. */
  #flowOfReceived(): number {
    const { protocol, source, sourcePort, destination, destinationPort } = this.#quoted;
    const { flows, keys } = this.#parts;
    const [remote, remotePort] = [keys.remoteOf(protocol, source | 0), keys.remotePortOf(protocol, sourcePort)];
    const flow = flows.findByClient(protocol, destination | 0, destinationPort, remote | 0, remotePort);
    if (flow === NONE) return -DROP.no_flow;
    return flows.state[flow] === RESTING ? -DROP.resting : flow;
  }
}
