import { addressToBytes, type Address } from '../../net/address.ts';
import { ClientAllowance } from './client-allowance.ts';
import { sumOf } from '../packet/checksum.ts';
import { ICMP_HEADER } from '../packet/offsets.ts';
import type { FishConfig } from '../config.ts';
import {
  addressBytes,
  checksumWithPseudoHeader,
  copyBytes,
  headerBytes,
  INTERNETWORK_CONTROL,
  sourceIn,
  writeHeader,
} from '../packet/own-packet.ts';
import { familyOfProtocol, ICMP, ICMP6_UNREACHABLE, ICMP_UNREACHABLE, ICMPV6, type Packet } from '../packet/packet.ts';
import type { VnetHeaderBytes } from '../packet/vnet-header.ts';
import type { Subscribers } from '../ports/subscribers.ts';

/** Type and code of "communication administratively prohibited": RFC 1812 5.2.7.1, RFC 4443 3.1. */
const PROHIBITED = { 4: (ICMP_UNREACHABLE << 8) | 13, 6: (ICMP6_UNREACHABLE << 8) | 1 } as const;
/** RFC 1812 4.3.2.3: as much of the packet as fits into 576 bytes; RFC 4443 3.1: into the least MTU of IPv6. */
const messageBytes_max = { 4: 576, 6: 1_280 } as const;

/**
 * Writes the answer to a packet that fish could not give a source: ICMP destination unreachable, communication
 * administratively prohibited, which ends a client's connect() at once instead of in two minutes. At most so many per second,
 * in bursts of as many, and of those no more to one client than are left for others.
 */
export class ProhibitedReply {
  /** By family, the address that errors come from; null: none are sent. */
  readonly #sources: Readonly<Record<4 | 6, DataView | null>>;
  readonly #start: VnetHeaderBytes;
  readonly #allowance: ClientAllowance;
  readonly #view: DataView;

  /** The virtio header, all zero, and the packet. */
  readonly buffer: Uint8Array;
  sent = 0;
  suppressed = 0;

  constructor(
    config: Pick<FishConfig, 'icmpSource' | 'icmpSource6' | 'icmpErrorsPerSMax' | 'vnetHeaderBytes'>,
    subscribers: Pick<Subscribers, 'ofSource'>,
    random: () => number,
  ) {
    const { icmpSource, icmpSource6, icmpErrorsPerSMax, vnetHeaderBytes } = config;
    this.#sources = { 4: viewOf(icmpSource), 6: viewOf(icmpSource6) };
    this.#allowance = new ClientAllowance(icmpErrorsPerSMax, subscribers, random);
    this.#start = vnetHeaderBytes;
    this.buffer = new Uint8Array(vnetHeaderBytes + messageBytes_max[6]);
    this.#view = new DataView(this.buffer.buffer);
  }

  /** Fills `buffer` with the answer to `packet`, not yet translated; its length, or 0 when it is not to be sent. */
  write(packet: Packet, nowMs: number): number {
    const { protocol } = packet;
    const family = familyOfProtocol(protocol);
    const source = this.#sources[family];
    if (source === null || !this.#allowance.spend(packet, nowMs)) {
      this.suppressed++;
      return 0;
    }
    this.sent++;
    const view = this.#view;
    const start = this.#start;
    const icmp = start + headerBytes(protocol);
    const quoteAt = icmp + ICMP_HEADER;
    const end = quoteAt + Math.min(packet.end - packet.start, start + messageBytes_max[family] - quoteAt);
    copyBytes(packet.view, packet.start, view, quoteAt, end - quoteAt);

    const sourceAt = start + sourceIn(protocol);
    const bytes = addressBytes(protocol);
    copyBytes(source, 0, view, sourceAt, bytes);
    copyBytes(packet.view, packet.sourceAt, view, sourceAt + bytes, bytes);
    writeHeader(view, start, end, family, family === 4 ? ICMP : ICMPV6, INTERNETWORK_CONTROL);

    view.setUint16(icmp, PROHIBITED[family]);
    view.setUint16(icmp + 2, 0);
    view.setUint32(icmp + 4, 0);
    const checksum =
      family === 4 ? ~sumOf(view, icmp, end) & 0xffff : checksumWithPseudoHeader(view, start, end, family, ICMPV6);
    view.setUint16(icmp + 2, checksum);
    return end;
  }
}

const viewOf = (address: Address | null): DataView | null =>
  address === null ? null : new DataView(addressToBytes(address).buffer);
