import { opaqueBytes } from '../../keeper/protocol.ts';

/** What a bound placeholder holds: a port of one address (4 or 16 bytes), or an echo identifier, which is the whole host's. */
export type Place = Readonly<{ protocol: 'tcp' | 'udp' | 'icmp'; address: Uint8Array; port: number }>;

/**
 * What lies in the keeper beside a placeholder, so that the next agent knows what it is. Which lease it is for is not told:
 * that is for the leases to say, and one that was granted anew meanwhile finds its ports still held.
 *
 *     u8 layout (1) | u8 protocol (of IP) | u8 family (4, 6) | u8 0 | u16 port, big-endian | 4 or 16 bytes of address | 0…
 */
const layout = 1;
const numbers = { icmp: 1, tcp: 6, udp: 17 } as const;
const protocols = new Map<number, Place['protocol']>([
  [numbers.icmp, 'icmp'],
  [numbers.tcp, 'tcp'],
  [numbers.udp, 'udp'],
]);
const addressAt = 6;

export function encodePlace({ protocol, address, port }: Place): Uint8Array {
  const record = new Uint8Array(opaqueBytes);
  record[0] = layout;
  record[1] = numbers[protocol];
  record[2] = address.length === 4 ? 4 : 6;
  record[4] = port >>> 8;
  record[5] = port & 0xff;
  record.set(address, addressAt);
  return record;
}

/** undefined for what another version of the agent put there. */
export function decodePlace(record: Uint8Array): Place | undefined {
  const protocol = protocols.get(record[1] ?? 0);
  const family = record[2];
  if (record[0] !== layout || !protocol || (family !== 4 && family !== 6)) return undefined;
  const address = record.slice(addressAt, addressAt + (family === 4 ? 4 : 16));
  return { protocol, address, port: ((record[4] ?? 0) << 8) | (record[5] ?? 0) };
}
