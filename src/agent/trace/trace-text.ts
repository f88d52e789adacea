import { dropWords } from '../../fish/drop-words.ts';
import { endsOf, type TracedPacket } from '../../fish/log/packet-trace.ts';
import { dropReasons, FORWARD, HELD } from '../../fish/verdicts.ts';
import { addressFromBigInt } from '../../net/address.ts';

const names: Readonly<Record<number, string>> = { 1: 'icmp', 6: 'tcp', 17: 'udp', 58: 'icmpv6' };
const flags = ['F', 'S', 'R', 'P', 'A', 'U', 'E', 'C'];

/** `tcp 100.64.0.2:40000 > 203.0.113.1:443 [S]` */
export function packetText(bytes: Uint8Array): string {
  const ends = endsOf(bytes);
  if (!ends) return 'no IP packet';
  const { family, protocol, transport } = ends;
  const end = (address: Uint8Array, port: number | null): string => {
    const value = address.reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
    const text = addressFromBigInt(family, value);
    return port === null ? text : family === 6 ? `[${text}]:${port}` : `${text}:${port}`;
  };
  const set = flags.filter((_, bit) => ((bytes[transport + 13] ?? 0) & (1 << bit)) !== 0).join('');
  const more = protocol === 6 && ends.sourcePort !== null ? ` [${set}]` : '';
  const from = end(ends.source, ends.sourcePort);
  return `${names[protocol] ?? `protocol ${protocol}`} ${from} > ${end(ends.destination, ends.destinationPort)}${more}`;
}

/** What fish did with it, and why. */
export function traceText({ kind, verdict, before, after, bytes }: TracedPacket): string {
  const text = packetText(before ?? after ?? new Uint8Array(0));
  if (kind === 'reply') return `${text}, ${bytes} bytes: fish's own answer`;
  if (kind === 'released') return `${text}, ${bytes} bytes: had waited for the first fragment, and leaves behind it`;
  if (verdict === FORWARD) return `${text}, ${bytes} bytes: forwarded as ${after ? packetText(after) : text}`;
  if (verdict === HELD) return `${text}, ${bytes} bytes: waits for the first fragment of its packet`;
  const reason = dropReasons[verdict - 1];
  return `${text}, ${bytes} bytes: dropped, ${reason ? `${reason}: ${dropWords[reason]}` : `unknown reason ${verdict}`}`;
}
