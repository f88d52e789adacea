import { addressToBytes } from '../../net/address.ts';
import type { FishConfig } from '../config.ts';
import { sumOf } from '../packet/checksum.ts';
import { ICMP_HEADER } from '../packet/offsets.ts';
import {
  addressBytes,
  checksumWithPseudoHeader,
  copyBytes,
  headerBytes,
  INTERNETWORK_CONTROL,
  sourceIn,
  writeHeader,
} from '../packet/own-packet.ts';
import { ICMP, ICMP6, ICMPV6 } from '../packet/packet.ts';
import type { VnetHeaderBytes } from '../packet/vnet-header.ts';

/** No message of an error is longer: RFC 4443 3.1 has it fit into the least MTU of IPv6, RFC 1812 4.3.2.3 into less. */
export const hostErrorBytes_max = 1_280;

/**
 * ICMP errors of this very host about what fish has sent: no route, a neighbour that does not answer, a link that is too narrow. Its
 * kernel sends them to where the packet came from, a leased address, and so to itself; no router on the way steers them. Here
 * each is put into a packet as it would come from a router with the address that clients know this host by.
 */
export class HostErrors {
  /** By family; null: none are sent. */
  readonly #sources: Readonly<Record<4 | 6, DataView | null>>;
  readonly #start: VnetHeaderBytes;
  readonly #view: DataView;
  /** The virtio header, all zero, and the packet. */
  readonly buffer: Uint8Array;
  /** Of those, all that were about a flow and have gone to its client. */
  relayed = 0;

  constructor({
    icmpSource,
    icmpSource6,
    vnetHeaderBytes,
  }: Pick<FishConfig, 'icmpSource' | 'icmpSource6' | 'vnetHeaderBytes'>) {
    const viewOf = (address: typeof icmpSource) =>
      address === null ? null : new DataView(addressToBytes(address).buffer);
    this.#sources = { 4: viewOf(icmpSource), 6: viewOf(icmpSource6) };
    this.#start = vnetHeaderBytes;
    this.buffer = new Uint8Array(vnetHeaderBytes + headerBytes(ICMP6) + hostErrorBytes_max);
    this.#view = new DataView(this.buffer.buffer);
  }

  /**
   * Fills `buffer` with the packet around a message, which begins with its ICMP header: for the source of the packet that it quotes.
   * Its length, or 0 when there is no such packet.
   */
  wrap(message: Uint8Array, family: 4 | 6): number {
    const protocol = family === 4 ? ICMP : ICMP6;
    const header = headerBytes(protocol);
    const source = this.#sources[family];
    if (source === null || message.length < ICMP_HEADER + header || message.length > hostErrorBytes_max) return 0;
    const view = this.#view;
    const start = this.#start;
    const icmp = start + header;
    const end = icmp + message.length;
    this.buffer.set(message, icmp);
    const bytes = addressBytes(protocol);
    const sourceAt = start + sourceIn(protocol);
    copyBytes(source, 0, view, sourceAt, bytes);
    copyBytes(view, icmp + ICMP_HEADER + sourceIn(protocol), view, sourceAt + bytes, bytes);
    writeHeader(view, start, end, family, family === 4 ? ICMP : ICMPV6, INTERNETWORK_CONTROL);
    // The kernel has checked the one that was there, over addresses that are no longer.
    view.setUint16(icmp + 2, 0);
    const checksum =
      family === 4 ? ~sumOf(view, icmp, end) & 0xffff : checksumWithPseudoHeader(view, start, end, family, ICMPV6);
    view.setUint16(icmp + 2, checksum);
    return end;
  }
}
