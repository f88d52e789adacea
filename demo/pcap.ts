/** Reading of capture files as tcpdump writes them (pcap, little endian, microseconds, Ethernet), IPv4 only. */

export type Packet = Readonly<{
  /** Microseconds since 1970. */
  at: number;
  protocol: 'tcp' | 'udp' | 'icmp';
  source: string;
  /** For an echo, the identifier, on both sides. */
  sourcePort: number;
  destination: string;
  destinationPort: number;
  /** TCP only. */
  tcp: Readonly<{ syn: boolean; ack: boolean; fin: boolean; rst: boolean; sequence: number }> | null;
  /** ICMP type; null for other protocols. */
  icmpType: number | null;
  /** As much of it as was captured. */
  payload: Uint8Array;
}>;

const magic = 0xa1b2c3d4;
const fileHeaderBytes = 24;
const recordHeaderBytes = 16;
const linkEthernet = 1;
const etherTypeIpv4 = 0x0800;
const protocolNumbers: Readonly<Record<number, Packet['protocol']>> = { 1: 'icmp', 6: 'tcp', 17: 'udp' };

/** Every IPv4 packet of TCP, UDP or ICMP echo in the file, in order. A record that is not wholly written yet ends it. */
export function* packetsIn(file: Uint8Array): Generator<Packet> {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  if (file.length < fileHeaderBytes) return;
  if (view.getUint32(0, true) !== magic || view.getUint32(20, true) !== linkEthernet)
    throw new Error('not a capture of Ethernet frames with times in microseconds');
  for (let at = fileHeaderBytes; at + recordHeaderBytes <= file.length;) {
    const captured = view.getUint32(at + 8, true);
    const time = view.getUint32(at, true) * 1_000_000 + view.getUint32(at + 4, true);
    const start = at + recordHeaderBytes;
    at = start + captured;
    if (at > file.length) return;
    const packet = packetIn(file.subarray(start, at), time);
    if (packet) yield packet;
  }
}

function packetIn(frame: Uint8Array, at: number): Packet | undefined {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  if (frame.length < 34 || view.getUint16(12) !== etherTypeIpv4) return undefined;
  const ip = 14;
  const protocol = protocolNumbers[frame[ip + 9] ?? 0];
  const transport = ip + ((frame[ip] ?? 0) & 15) * 4;
  const isLaterFragment = (view.getUint16(ip + 6) & 0x1fff) !== 0;
  if (!protocol || isLaterFragment || frame.length < transport + 8) return undefined;
  // The frame may be padded to Ethernet's minimum, which is no payload.
  const end = Math.min(frame.length, ip + view.getUint16(ip + 2));
  const common = { at, protocol, source: address(frame, ip + 12), destination: address(frame, ip + 16) };
  if (protocol === 'icmp') {
    const icmpType = frame[transport] ?? 0;
    if (icmpType !== 0 && icmpType !== 8) return undefined;
    const identifier = view.getUint16(transport + 4);
    const payload = frame.subarray(transport + 8, end);
    return { ...common, sourcePort: identifier, destinationPort: identifier, tcp: null, icmpType, payload };
  }
  const ports = { sourcePort: view.getUint16(transport), destinationPort: view.getUint16(transport + 2) };
  if (protocol === 'udp')
    return { ...common, ...ports, tcp: null, icmpType: null, payload: frame.subarray(transport + 8, end) };
  if (frame.length < transport + 20) return undefined;
  const flags = frame[transport + 13] ?? 0;
  const tcp = {
    fin: (flags & 1) !== 0,
    syn: (flags & 2) !== 0,
    rst: (flags & 4) !== 0,
    ack: (flags & 16) !== 0,
    sequence: view.getUint32(transport + 4),
  };
  const data = transport + ((frame[transport + 12] ?? 0) >> 4) * 4;
  return { ...common, ...ports, tcp, icmpType: null, payload: frame.subarray(data, Math.max(data, end)) };
}

const address = (frame: Uint8Array, at: number): string => frame.subarray(at, at + 4).join('.');
