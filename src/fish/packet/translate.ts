import { addressWords_max } from './address-words.ts';
import { delta16, delta32, fold, updated, updatedPartial } from './checksum.ts';
import { HOP_LIMIT } from './ipv6-headers.ts';
import { HEADER_CHECKSUM, ICMP, IDENTIFICATION, IPV6, isTcp, TIME_TO_LIVE, UDP, type Packet } from './packet.ts';

const HOPS_MAX = 255;

/** What goes out gets another source. The header's checksum follows in `settleHeader`, as of everything here. */
export function translateSource(packet: Packet, address: number, port: number): void {
  translate(packet, packet.sourceAt, packet.sourcePortAt, address, port);
}

/** What comes back gets the client as its destination. */
export function translateDestination(packet: Packet, address: number, port: number): void {
  translate(packet, packet.destinationAt, packet.destinationPortAt, address, port);
}

/** The same over IPv6: the address is that of a row of the address book. */
export function translateSource6(packet: Packet, words: Uint32Array, row: number, port: number): void {
  translate6(packet, packet.sourceAt, packet.sourcePortAt, words, row, port);
}

export function translateDestination6(packet: Packet, words: Uint32Array, row: number, port: number): void {
  translate6(packet, packet.destinationAt, packet.destinationPortAt, words, row, port);
}

/** A fragment other than the first: it gets the addresses (as `address-words.ts` has them) and the identification of that. */
export function translateFragment(packet: Packet, addresses: Uint32Array, from: number, identification: number): void {
  const { view } = packet;
  const to = from + addressWords_max;
  if (packet.protocol < IPV6) {
    packet.headerDelta +=
      replaceWord(view, packet.sourceAt, addresses[from]!) + replaceWord(view, packet.destinationAt, addresses[to]!);
  } else {
    replaceAddress6(view, packet.sourceAt, addresses, from);
    replaceAddress6(view, packet.destinationAt, addresses, to);
  }
  renumber(packet, identification);
}

/** Gives the packet, or one of its fragments, another identification. Over IPv6 only a fragment has one. */
export function renumber(packet: Packet, identification: number): void {
  const { view } = packet;
  if (packet.protocol >= IPV6) {
    view.setUint32(packet.identificationAt, identification);
    return;
  }
  const at = packet.start + IDENTIFICATION;
  packet.headerDelta += delta16(view.getUint16(at), identification & 0xffff);
  view.setUint16(at, identification);
}

/**
 * Gives the packet one hop back: the kernel counts one where it forwards it into the TUN, and another where it forwards it out,
 * and both are this one host. A packet that goes round in circles still comes to an end, as every round costs one hop.
 */
export function giveBackHop(packet: Packet): void {
  const { view, start } = packet;
  const isIPv6 = packet.protocol >= IPV6;
  const at = start + (isIPv6 ? HOP_LIMIT : TIME_TO_LIVE);
  const hops = view.getUint8(at);
  if (hops === HOPS_MAX) return;
  view.setUint8(at, hops + 1);
  // The time to live is the upper half of its word.
  if (!isIPv6) packet.headerDelta += 0x100;
}

/**
 * Moves the checksum of the IPv4 header by all that was changed in it, at once; IPv6 has none. Whoever translates a packet has
 * to do that last.
 */
export function settleHeader(packet: Packet): void {
  if (packet.protocol >= IPV6) return;
  const { view } = packet;
  const at = packet.start + HEADER_CHECKSUM;
  view.setUint16(at, updated(view.getUint16(at), packet.headerDelta));
}

/** Returns what the sum grows by. */
function replaceWord(view: DataView, at: number, value: number): number {
  const delta = delta32(view.getUint32(at), value);
  view.setUint32(at, value);
  return delta;
}

/** The same for an IPv6 address, whose four words begin at `from`. */
export function replaceAddress6(view: DataView, at: number, words: Uint32Array, from: number): number {
  let delta = 0;
  for (let i = 0; i < 4; i++) delta += replaceWord(view, at + i * 4, words[from + i]!);
  return fold(delta);
}

function translate(packet: Packet, addressAt: number, portAt: number, address: number, port: number): void {
  const addressDelta = replaceWord(packet.view, addressAt, address);
  packet.headerDelta += addressDelta;
  translatePort(packet, portAt, port, addressDelta);
}

function translate6(
  packet: Packet,
  addressAt: number,
  portAt: number,
  words: Uint32Array,
  row: number,
  port: number,
): void {
  translatePort(packet, portAt, port, replaceAddress6(packet.view, addressAt, words, row * 4));
}

function translatePort(packet: Packet, portAt: number, port: number, addressDelta: number): void {
  const { view } = packet;
  const portDelta = delta16(view.getUint16(portAt), port);
  view.setUint16(portAt, port);
  const checksum = view.getUint16(packet.checksumAt);
  view.setUint16(packet.checksumAt, transportChecksum(packet, checksum, addressDelta, portDelta));
}

function transportChecksum(packet: Packet, checksum: number, addressDelta: number, portDelta: number): number {
  // ICMP over IPv4 sums no pseudo-header, so the addresses are nothing to it; unfinished, its field holds nothing yet.
  if (packet.protocol === ICMP) return packet.partial ? checksum : neverZero(updated(checksum, portDelta));
  if (packet.partial) return updatedPartial(checksum, addressDelta);
  // RFC 768: zero says that the sender computed none, and that has to stay so (RFC 3022 4.1). Over IPv6 nobody may.
  if (checksum === 0 && packet.protocol === UDP) return 0;
  const moved = updated(checksum, addressDelta + portDelta);
  return isTcp(packet.protocol) ? moved : neverZero(moved);
}

/**
 * The other zero. UDP has to use it, because 0 means "none"; for ICMP it is right as well, and the only one that is for a
 * message of nothing but zeros (an echo reply with identifier and sequence 0), whose sum is 0 instead of 0xffff.
 */
const neverZero = (checksum: number): number => (checksum === 0 ? 0xffff : checksum);
