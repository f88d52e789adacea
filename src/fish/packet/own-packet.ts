import { fold, sumOf } from './checksum.ts';
import { IPV6_HEADER, NEXT_HEADER, PAYLOAD_LENGTH, SOURCE6 } from './ipv6-headers.ts';
import { IPV4_HEADER, SOURCE4 } from './offsets.ts';
import { HEADER_CHECKSUM, IPV6 } from './packet.ts';

const DONT_FRAGMENT = 0x4000;
const TIME_TO_LIVE = 64;
/** RFC 1812 4.3.2.5: errors travel with precedence 6, internetwork control. */
export const INTERNETWORK_CONTROL = 0xc0;

/** How long the IP header is of a packet of fish's own, in answer to one of this protocol: without options. */
export const headerBytes = (protocol: number): number => (protocol < IPV6 ? IPV4_HEADER : IPV6_HEADER);

/** How many bytes an address of this protocol's family has. */
export const addressBytes = (protocol: number): number => (protocol < IPV6 ? 4 : 16);

/** Where the source is in such a header; the destination is right behind it. */
export const sourceIn = (protocol: number): number => (protocol < IPV6 ? SOURCE4 : SOURCE6);

/**
 * Writes the IP header of a packet of fish's own, from `start` to `end` of the view, whose addresses are there already. `number`:
 * IANA's of what it carries. `service`: type of service, or traffic class.
 */
export function writeHeader(
  view: DataView,
  start: number,
  end: number,
  family: 4 | 6,
  number: number,
  service: number,
): void {
  if (family === 6) {
    view.setUint32(start, 0x6000_0000 | (service << 20));
    view.setUint16(start + PAYLOAD_LENGTH, end - start - IPV6_HEADER);
    view.setUint16(start + NEXT_HEADER, (number << 8) | TIME_TO_LIVE);
    return;
  }
  view.setUint16(start, 0x4500 | service);
  view.setUint16(start + 2, end - start);
  view.setUint32(start + 4, DONT_FRAGMENT);
  view.setUint16(start + 8, (TIME_TO_LIVE << 8) | number);
  view.setUint16(start + HEADER_CHECKSUM, 0);
  view.setUint16(start + HEADER_CHECKSUM, ~sumOf(view, start, start + IPV4_HEADER) & 0xffff);
}

/**
 * The checksum of what such a packet carries, from behind its header to `end`, with a pseudo-header (RFC 9293 3.1, RFC 8200
 * 8.1): both addresses, the number and the length. Its field must hold 0.
 */
export function checksumWithPseudoHeader(
  view: DataView,
  start: number,
  end: number,
  family: 4 | 6,
  number: number,
): number {
  const transport = start + (family === 4 ? IPV4_HEADER : IPV6_HEADER);
  const addresses = sumOf(view, start + (family === 4 ? SOURCE4 : SOURCE6), transport);
  return ~fold(addresses + number + (end - transport) + sumOf(view, transport, end)) & 0xffff;
}

/** Copies so many bytes. */
export function copyBytes(from: DataView, fromAt: number, to: DataView, toAt: number, bytes: number): void {
  for (let i = 0; i < bytes; i++) to.setUint8(toAt + i, from.getUint8(fromAt + i));
}
