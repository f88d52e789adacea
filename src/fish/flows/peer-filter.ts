import { NO_ADDRESS, type AddressBook } from '../packet/address-book.ts';
import type { Dependence } from './mapping.ts';
import { UDP6, type Packet } from '../packet/packet.ts';
import type { Clients } from '../ports/clients.ts';
import type { UdpPeers } from './udp-peers.ts';
import { DROP, FORWARD } from '../verdicts.ts';

/** Whom a UDP mapping lets in: those that its client has sent to, as far as the filter asks. */
export class PeerFilter {
  /** null: anybody that the mapping's own key lets in. */
  readonly #peers: UdpPeers | null;
  readonly #clients: Clients;
  readonly #book: AddressBook;
  /** What of a peer's port the filter looks at. */
  readonly #portMask: number;

  constructor(
    { peers, clients }: Readonly<{ peers: UdpPeers | null; clients: Clients }>,
    book: AddressBook,
    filtering: Dependence,
  ) {
    this.#peers = peers;
    this.#clients = clients;
    this.#book = book;
    this.#portMask = filtering === 'address_and_port_dependent' ? 0xffff : 0;
  }

  /** Whoever a client sends to by its flow may answer: FORWARD, or why that cannot be remembered. */
  add(flow: number, client: number, packet: Packet): number {
    const peers = this.#peers;
    if (peers === null) return FORWARD;
    const { protocol, destination } = packet;
    const port = packet.destinationPort & this.#portMask;
    if (peers.has(flow, destination, port)) return FORWARD;
    if (peers.free === 0) return DROP.peers_full;
    const isIPv6 = protocol === UDP6;
    // Each of IPv6 may take an address of the book, which all share as well.
    const free = isIPv6 ? Math.min(peers.free, this.#book.free) : peers.free;
    if (!this.#clients.mayHavePeer(client, protocol, free)) return DROP.peer_share;
    // Every entry counts once on its address.
    const remote = isIPv6 ? this.#book.hold(packet.view, packet.destinationAt) : destination;
    if (remote === NO_ADDRESS) return DROP.addresses_full;
    peers.add(flow, remote, port);
    this.#clients.addPeer(client, protocol);
    return FORWARD;
  }

  has(flow: number, remote: number, remotePort: number): boolean {
    return this.#peers === null || this.#peers.has(flow, remote, remotePort & this.#portMask);
  }
}
