import {
  address6Bytes,
  covered6,
  header6,
  isIPv6,
  isIPv6Packet,
  pseudoHeader6,
  read6,
  type Extension,
} from './packets6.ts';

/**
 * Packets made and read the slow, obvious way: plain objects, checksums always summed over everything. It shares no
 * code with src/fish, which it is there to judge.
 */

export type Endpoint = Readonly<{ address: string; port: number }>;

type Common = Readonly<{
  source: string;
  destination: string;
  ttl?: number;
  /** Differentiated services and congestion notification. */
  service?: number;
  /** IP options, a multiple of four bytes. */
  options?: readonly number[];
  identification?: number;
  /** Flags and offset of a fragment. */
  fragment?: number;
  /** IPv6: the flow label, and extension headers. */
  label?: number;
  extensions?: readonly Extension[];
}>;
export type TcpFields = Common &
  Readonly<{
    protocol: 'tcp';
    sourcePort: number;
    destinationPort: number;
    /** Letters of S, A, F, R, P. */
    flags: string;
    sequence?: number;
    acknowledgement?: number;
    window?: number;
    tcpOptions?: readonly number[];
    data?: Uint8Array;
  }>;
export type UdpFields = Common &
  Readonly<{
    protocol: 'udp';
    sourcePort: number;
    destinationPort: number;
    /** As RFC 768 allows: the sender computed none. */
    withoutChecksum?: boolean;
    data?: Uint8Array;
  }>;
export type IcmpFields = Common &
  Readonly<{ protocol: 'icmp'; type: number; code?: number; identifier: number; sequence?: number; data?: Uint8Array }>;
export type PacketFields = TcpFields | UdpFields | IcmpFields;

const protocolNumbers = { icmp: 1, tcp: 6, udp: 17 } as const;
const flagBits: Readonly<Record<string, number>> = { F: 1, S: 2, R: 4, P: 8, A: 16 };
const nothing = new Uint8Array(0);

export const bytesOf = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex, 'hex'));
export const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const word = (value: number) => [(value >>> 8) & 255, value & 255];
const doubleWord = (value: number) => [...word(value >>> 16), ...word(value)];
export const addressBytes = (address: string) =>
  isIPv6(address) ? address6Bytes(address) : address.split('.').map(Number);
export const addressNumber = (address: string): number =>
  addressBytes(address).reduce((number, byte) => number * 256 + byte, 0);
const wordAt = (bytes: Uint8Array, at: number) => ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);

/** RFC 1071 word by word, every carry at once. */
export function onesComplementSum(bytes: Uint8Array | readonly number[]): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) {
    sum += ((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0);
    if (sum > 0xffff) sum -= 0xffff;
  }
  return sum;
}
const checksumOf = (bytes: Uint8Array | readonly number[]) => 0xffff - onesComplementSum(bytes);

function pseudoHeader(packet: PacketFields, transportBytes: number): number[] {
  const [source, destination] = [addressBytes(packet.source), addressBytes(packet.destination)];
  if (isIPv6(packet.source))
    return pseudoHeader6(
      source,
      destination,
      packet.protocol === 'icmp' ? 58 : protocolNumbers[packet.protocol],
      transportBytes,
    );
  return [...source, ...destination, 0, protocolNumbers[packet.protocol], ...word(transportBytes)];
}

function transportOf(packet: PacketFields): number[] {
  const data = packet.data ?? nothing;
  if (packet.protocol === 'tcp') {
    const options = packet.tcpOptions ?? [];
    const flags = packet.flags.split('').reduce((bits, letter) => bits | (flagBits[letter] ?? 0), 0);
    return [
      ...word(packet.sourcePort),
      ...word(packet.destinationPort),
      ...doubleWord(packet.sequence ?? 0),
      ...doubleWord(packet.acknowledgement ?? 0),
      (5 + options.length / 4) << 4,
      flags,
      ...word(packet.window ?? 64_240),
      ...[0, 0, 0, 0],
      ...options,
      ...data,
    ];
  }
  if (packet.protocol === 'udp')
    return [...word(packet.sourcePort), ...word(packet.destinationPort), ...word(8 + data.length), 0, 0, ...data];
  return [packet.type, packet.code ?? 0, 0, 0, ...word(packet.identifier), ...word(packet.sequence ?? 1), ...data];
}

const checksumOffset = { icmp: 2, tcp: 16, udp: 6 } as const;

function transportChecksum(packet: PacketFields, transport: readonly number[]): number {
  if (packet.protocol === 'udp' && packet.withoutChecksum === true) return 0;
  const checksum = checksumOf(
    packet.protocol === 'icmp' && !isIPv6(packet.source)
      ? transport
      : [...pseudoHeader(packet, transport.length), ...transport],
  );
  // Zero is written as all ones: for UDP it has to be (RFC 768), for ICMP either is right.
  return checksum === 0 && packet.protocol !== 'tcp' ? 0xffff : checksum;
}

/** `partial`: the transport checksum is the sum of the pseudo-header, as a packet has it whose checksum is offloaded. */
export function build(packet: PacketFields, partial = false): Uint8Array {
  const transport = transportOf(packet);
  const checksum =
    partial && (packet.protocol !== 'icmp' || isIPv6(packet.source))
      ? onesComplementSum(pseudoHeader(packet, transport.length))
      : transportChecksum(packet, transport);
  transport.splice(checksumOffset[packet.protocol], 2, ...word(checksum));
  if (isIPv6(packet.source)) return Uint8Array.from([...header6(packet, transport.length), ...transport]);
  const options = packet.options ?? [];
  const header = [
    0x45 + options.length / 4,
    packet.service ?? 0,
    ...word(20 + options.length + transport.length),
    ...word(packet.identification ?? 0x1234),
    ...word(packet.fragment ?? 0x4000),
    packet.ttl ?? 63,
    protocolNumbers[packet.protocol],
    ...[0, 0],
    ...addressBytes(packet.source),
    ...addressBytes(packet.destination),
    ...options,
  ];
  header.splice(10, 2, ...word(checksumOf(header)));
  return Uint8Array.from([...header, ...transport]);
}

export const tcp = (
  source: Endpoint,
  destination: Endpoint,
  flags: string,
  more: Partial<TcpFields> = {},
): TcpFields => ({
  protocol: 'tcp',
  source: source.address,
  sourcePort: source.port,
  destination: destination.address,
  destinationPort: destination.port,
  flags,
  ...more,
});
export const udp = (source: Endpoint, destination: Endpoint, more: Partial<UdpFields> = {}): UdpFields => ({
  protocol: 'udp',
  source: source.address,
  sourcePort: source.port,
  destination: destination.address,
  destinationPort: destination.port,
  data: Uint8Array.of(1, 2, 3),
  ...more,
});
export const echo = (source: string, destination: string, identifier: number, type: 0 | 8 = 8): IcmpFields => ({
  protocol: 'icmp',
  source,
  destination,
  type: isIPv6(source) ? (type === 8 ? 128 : 129) : type,
  identifier,
  data: Uint8Array.of(9, 8, 7, 6),
});

export type Seen = Readonly<{
  protocol: number;
  source: string;
  destination: string;
  ttl: number;
  /** Ports of TCP and UDP; of ICMP the identifier, twice. */
  sourcePort: number;
  destinationPort: number;
}>;

/** The fields that translation is about, of a packet without virtio header. */
export function read(bytes: Uint8Array): Seen {
  if (isIPv6Packet(bytes)) return read6(bytes);
  const at = ((bytes[0] ?? 0) & 15) * 4;
  const protocol = bytes[9] ?? 0;
  const isIcmp = protocol === 1;
  return {
    protocol,
    source: bytes.slice(12, 16).join('.'),
    destination: bytes.slice(16, 20).join('.'),
    ttl: bytes[8] ?? 0,
    sourcePort: wordAt(bytes, isIcmp ? at + 4 : at),
    destinationPort: wordAt(bytes, isIcmp ? at + 4 : at + 2),
  };
}

/** What is wrong with the checksums of a packet, summed over all of it; undefined when nothing is. */
export function checksumProblem(bytes: Uint8Array): string | undefined {
  if (isIPv6Packet(bytes)) return onesComplementSum(covered6(bytes)) === 0xffff ? undefined : 'transport checksum';
  const headerBytes = ((bytes[0] ?? 0) & 15) * 4;
  if (onesComplementSum(bytes.subarray(0, headerBytes)) !== 0xffff) return 'header checksum';
  const transport = bytes.subarray(headerBytes, wordAt(bytes, 2));
  const protocol = bytes[9] ?? 0;
  if (protocol === 1) return onesComplementSum(transport) === 0xffff ? undefined : 'ICMP checksum';
  if (protocol === 17 && wordAt(transport, 6) === 0) return undefined;
  const covered = protocol === 17 ? wordAt(transport, 4) : transport.length;
  const pseudo = [...bytes.subarray(12, 20), 0, protocol, ...word(covered)];
  const sum = onesComplementSum([...pseudo, ...transport.subarray(0, covered)]);
  return sum === 0xffff ? undefined : 'transport checksum';
}
