import { addressBytes, onesComplementSum, type Endpoint } from './packets.ts';
import { isIPv6Packet, pseudoHeader6, transportOf6 } from './packets6.ts';

/** What fish makes of a packet: translated, and one hop more, which the kernel has counted on its way to the TUN. */
export const translated = (
  packet: Uint8Array,
  side: 'source' | 'destination',
  to: Endpoint,
  partial = false,
): Uint8Array => oneHopBack(translatedOnly(packet, side, to, partial));

/**
 * Address translation as a textbook has it: replace the address and the port, then sum both checksums anew over the whole
 * packet. The yardstick for src/fish, which does the same by differences, in place.
 *
 * A packet whose transport checksum is only begun (`partial`) gets the sum of its new pseudo-header.
 */
export function translatedOnly(
  packet: Uint8Array,
  side: 'source' | 'destination',
  to: Endpoint,
  partial = false,
): Uint8Array {
  if (isIPv6Packet(packet)) return translated6(packet, side, to, partial);
  const bytes = Uint8Array.from(packet);
  const transport = ((bytes[0] ?? 0) & 15) * 4;
  const protocol = bytes[9] ?? 0;
  bytes.set(addressBytes(to.address), side === 'source' ? 12 : 16);
  bytes.set([to.port >>> 8, to.port & 255], transport + (protocol === 1 ? 4 : side === 'source' ? 0 : 2));
  bytes.set([0, 0], 10);
  setWord(bytes, 10, 0xffff - onesComplementSum(bytes.subarray(0, transport)));
  if (protocol === 1) writeIcmpChecksum(bytes, transport);
  else writeChecksum(bytes, transport, protocol, partial);
  return bytes;
}

function translated6(packet: Uint8Array, side: 'source' | 'destination', to: Endpoint, partial: boolean): Uint8Array {
  const bytes = Uint8Array.from(packet);
  const { at: transport, protocol } = transportOf6(bytes);
  bytes.set(addressBytes(to.address), side === 'source' ? 8 : 24);
  bytes.set([to.port >>> 8, to.port & 255], transport + (protocol === 58 ? 4 : side === 'source' ? 0 : 2));
  const at = transport + (protocol === 17 ? 6 : protocol === 6 ? 16 : 2);
  const covered = bytes.subarray(transport, 40 + (((bytes[4] ?? 0) << 8) | (bytes[5] ?? 0)));
  const pseudo = pseudoHeader6([...bytes.subarray(8, 24)], [...bytes.subarray(24, 40)], protocol, covered.length);
  setWord(bytes, at, 0);
  const sum = onesComplementSum(partial ? pseudo : [...pseudo, ...covered]);
  const checksum = partial ? sum : 0xffff - sum;
  setWord(bytes, at, checksum === 0 && protocol !== 6 ? 0xffff : checksum);
  return bytes;
}

function writeIcmpChecksum(bytes: Uint8Array, transport: number): void {
  setWord(bytes, transport + 2, 0);
  setWord(bytes, transport + 2, 0xffff - onesComplementSum(bytes.subarray(transport, totalOf(bytes))) || 0xffff);
}

function writeChecksum(bytes: Uint8Array, transport: number, protocol: number, partial: boolean): void {
  const at = transport + (protocol === 17 ? 6 : 16);
  if (protocol === 17 && !partial && bytes[at] === 0 && bytes[at + 1] === 0) return;
  const covered = bytes.subarray(transport, totalOf(bytes));
  const pseudo = [...bytes.subarray(12, 20), 0, protocol, covered.length >>> 8, covered.length & 255];
  setWord(bytes, at, 0);
  const sum = onesComplementSum(partial ? pseudo : [...pseudo, ...covered]);
  const checksum = partial ? sum : 0xffff - sum;
  setWord(bytes, at, checksum === 0 && protocol !== 6 ? 0xffff : checksum);
}

const totalOf = (bytes: Uint8Array) => ((bytes[2] ?? 0) << 8) | (bytes[3] ?? 0);
const setWord = (bytes: Uint8Array, at: number, value: number) => bytes.set([value >>> 8, value & 255], at);

/** A packet one hop further: what the kernel does to it on its way to the TUN. */
export const oneHopLater = (packet: Uint8Array): Uint8Array => hopsChanged(packet, -1);
/** And back; more than 255 there cannot be. */
export const oneHopBack = (packet: Uint8Array): Uint8Array => hopsChanged(packet, 1);

function hopsChanged(packet: Uint8Array, by: number): Uint8Array {
  const bytes = Uint8Array.from(packet);
  const at = isIPv6Packet(bytes) ? 7 : 8;
  bytes[at] = Math.min(255, (bytes[at] ?? 0) + by);
  if (isIPv6Packet(bytes)) return bytes;
  setWord(bytes, 10, 0);
  setWord(bytes, 10, 0xffff - onesComplementSum(bytes.subarray(0, ((bytes[0] ?? 0) & 15) * 4)));
  return bytes;
}
