import type { PacketFields, Seen } from './packets.ts';

/** IPv6 packets, as slow and obvious as `packets.ts` has those of IPv4. It shares no code with src/fish, which it judges. */

export const isIPv6 = (address: string): boolean => address.includes(':');
export const isIPv6Packet = (bytes: Uint8Array): boolean => (bytes[0] ?? 0) >>> 4 === 6;

const numbers = { icmp: 58, tcp: 6, udp: 17 } as const;
const word = (value: number) => [(value >>> 8) & 255, value & 255];
const wordAt = (bytes: Uint8Array, at: number) => ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);

/** Sixteen bytes of an address, `::` or not. */
export function address6Bytes(address: string): number[] {
  const [head = '', tail] = address.split('::');
  const groupsOf = (text: string) => (text === '' ? [] : text.split(':').map((group) => parseInt(group, 16)));
  const [before, after] = [groupsOf(head), groupsOf(tail ?? '')];
  const gap = tail === undefined ? [] : new Array<number>(8 - before.length - after.length).fill(0);
  return [...before, ...gap, ...after].flatMap(word);
}

/** Not shortened but where it has to be for comparing with what people write: the longest run of zeros, RFC 5952. */
export function address6Text(bytes: Uint8Array | readonly number[]): string {
  const groups = Array.from({ length: 8 }, (_, i) =>
    (((bytes[i * 2] ?? 0) << 8) | (bytes[i * 2 + 1] ?? 0)).toString(16),
  );
  const runs = [...`:${groups.join(':')}:`.matchAll(/(?::0)+(?=:)/g)].map(([run]) => run);
  const longest = runs.toSorted((a, b) => b.length - a.length)[0] ?? '';
  if (longest.length < 4) return groups.join(':');
  const text = `:${groups.join(':')}:`.replace(`${longest}:`, '::');
  return text.replace(/^:(?!:)/, '').replace(/(?<!:):$/, '');
}

/** An extension header: its type, and what is behind the two bytes that all of them begin with, filled up to eight. */
export type Extension = Readonly<{ type: number; body?: readonly number[] }>;

const extensionBytes = ({ body = [] }: Extension, next: number): number[] => {
  const length = Math.max(8, Math.ceil((body.length + 2) / 8) * 8);
  return [next, length / 8 - 1, ...body, ...new Array<number>(length - 2 - body.length).fill(0)];
};

export const pseudoHeader6 = (
  source: readonly number[],
  destination: readonly number[],
  protocol: number,
  bytes: number,
) => [...source, ...destination, 0, 0, ...word(bytes), 0, 0, 0, protocol];

/** The header, extension headers and all, in front of a transport whose checksum is there. */
export function header6(packet: PacketFields, transportBytes: number): number[] {
  const extensions = packet.extensions ?? [];
  const types = [...extensions.map(({ type }) => type), numbers[packet.protocol]];
  const chain = extensions.flatMap((extension, i) => extensionBytes(extension, types[i + 1]!));
  const service = packet.service ?? 0;
  return [
    0x60 | (service >>> 4),
    ((service & 15) << 4) | ((packet.label ?? 0) >>> 16),
    ...word((packet.label ?? 0) & 0xffff),
    ...word(chain.length + transportBytes),
    types[0]!,
    packet.ttl ?? 63,
    ...address6Bytes(packet.source),
    ...address6Bytes(packet.destination),
    ...chain,
  ];
}

/** Where the transport starts, behind whatever extension headers there are, and what it is. */
export function transportOf6(bytes: Uint8Array, start = 0): { at: number; protocol: number } {
  let protocol = bytes[start + 6] ?? 0;
  let at = start + 40;
  while ([0, 43, 44, 60].includes(protocol) && at < bytes.length) {
    const length = protocol === 44 ? 8 : ((bytes[at + 1] ?? 0) + 1) * 8;
    protocol = bytes[at] ?? 0;
    at += length;
  }
  return { at, protocol };
}

export function read6(bytes: Uint8Array): Seen {
  const { at, protocol } = transportOf6(bytes);
  const isIcmp = protocol === 58;
  return {
    protocol,
    source: address6Text(bytes.slice(8, 24)),
    destination: address6Text(bytes.slice(24, 40)),
    ttl: bytes[7] ?? 0,
    sourcePort: wordAt(bytes, isIcmp ? at + 4 : at),
    destinationPort: wordAt(bytes, isIcmp ? at + 4 : at + 2),
  };
}

/** What a transport's checksum is over: its pseudo-header and itself. */
export function covered6(bytes: Uint8Array): number[] {
  const { at, protocol } = transportOf6(bytes);
  const transport = bytes.subarray(at, 40 + wordAt(bytes, 4));
  const length = protocol === 17 ? wordAt(transport, 4) : transport.length;
  return [
    ...pseudoHeader6([...bytes.subarray(8, 24)], [...bytes.subarray(24, 40)], protocol, length),
    ...transport.subarray(0, length),
  ];
}
