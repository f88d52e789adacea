import { delta16, delta32, updated, updatedPartial } from './checksum.ts';
import { HEADER_CHECKSUM, ICMP, UDP, type Packet } from './packet.ts';

/** What goes out gets another source. Time to live stays: the kernel counts it down where it forwards. */
export function translateSource(packet: Packet, address: number, port: number): void {
  translate(packet, packet.sourceAt, packet.sourcePortAt, address, port);
}

/** What comes back gets the client as its destination. */
export function translateDestination(packet: Packet, address: number, port: number): void {
  translate(packet, packet.destinationAt, packet.destinationPortAt, address, port);
}

function translate(packet: Packet, addressAt: number, portAt: number, address: number, port: number): void {
  const { view } = packet;
  const addressDelta = delta32(view.getUint32(addressAt), address);
  const portDelta = delta16(view.getUint16(portAt), port);
  view.setUint32(addressAt, address);
  view.setUint16(portAt, port);

  const headerChecksumAt = packet.start + HEADER_CHECKSUM;
  view.setUint16(headerChecksumAt, updated(view.getUint16(headerChecksumAt), addressDelta));
  const checksum = view.getUint16(packet.checksumAt);
  view.setUint16(packet.checksumAt, transportChecksum(packet, checksum, addressDelta, portDelta));
}

function transportChecksum(packet: Packet, checksum: number, addressDelta: number, portDelta: number): number {
  // ICMP over IPv4 sums no pseudo-header, so the addresses are nothing to it; unfinished, its field holds nothing yet.
  if (packet.protocol === ICMP) return packet.partial ? checksum : neverZero(updated(checksum, portDelta));
  if (packet.partial) return updatedPartial(checksum, addressDelta);
  if (packet.protocol !== UDP) return updated(updated(checksum, addressDelta), portDelta);
  // RFC 768: zero says that the sender computed none, and that has to stay so (RFC 3022 4.1).
  if (checksum === 0) return 0;
  return neverZero(updated(updated(checksum, addressDelta), portDelta));
}

/**
 * The other zero. UDP has to use it, because 0 means "none"; for ICMP it is right as well, and the only one that is for a
 * message of nothing but zeros (an echo reply with identifier and sequence 0), whose sum is 0 instead of 0xffff.
 */
const neverZero = (checksum: number): number => (checksum === 0 ? 0xffff : checksum);
