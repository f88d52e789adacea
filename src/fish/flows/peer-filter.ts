import { NO_ADDRESS, type AddressBook } from '../packet/address-book.ts';
import type { Dependence } from './mapping.ts';
import { UDP6, type Packet } from '../packet/packet.ts';
import type { UdpPeers } from './udp-peers.ts';

/** Whom a UDP mapping lets in: those that its client has sent to, as far as the filter asks. */
export class PeerFilter {
  /** null: anybody that the mapping's own key lets in. */
  readonly #peers: UdpPeers | null;
  readonly #book: AddressBook;
  /** What of a peer's port the filter looks at. */
  readonly #portMask: number;

  constructor(peers: UdpPeers | null, book: AddressBook, filtering: Dependence) {
    this.#peers = peers;
    this.#book = book;
    this.#portMask = filtering === 'address_and_port_dependent' ? 0xffff : 0;
  }

  /** Whoever a client sends to may answer; false when there is no room to remember that. */
  add(flow: number, packet: Packet): boolean {
    const peers = this.#peers;
    if (peers === null) return true;
    const port = packet.destinationPort & this.#portMask;
    if (packet.protocol !== UDP6) return peers.add(flow, packet.destination, port);
    if (peers.has(flow, packet.destination, port)) return true;
    // Every entry counts once on its address.
    const remote = this.#book.hold(packet.view, packet.destinationAt);
    if (remote === NO_ADDRESS) return false;
    if (peers.add(flow, remote, port)) return true;
    this.#book.letGo(remote);
    return false;
  }

  has(flow: number, remote: number, remotePort: number): boolean {
    return this.#peers === null || this.#peers.has(flow, remote, remotePort & this.#portMask);
  }
}
