import { dropWords } from '../../fish/drop-words.ts';
import { PacketEnds } from '../../fish/log/packet-ends.ts';
import type { TracedPacket } from '../../fish/log/packet-trace.ts';
import { dropReasons, FORWARD, HELD } from '../../fish/verdicts.ts';
import { addressFromBigInt } from '../../net/address.ts';

const names: Readonly<Record<number, string>> = { 1: 'icmp', 6: 'tcp', 17: 'udp', 58: 'icmpv6' };
const errorNames: Readonly<Record<4 | 6, Readonly<Record<number, string>>>> = {
  4: { 3: 'unreachable', 4: 'source quench', 5: 'redirect', 11: 'time exceeded', 12: 'parameter problem' },
  6: { 1: 'unreachable', 2: 'packet too big', 3: 'time exceeded', 4: 'parameter problem' },
};
const TCP = 6;
const ICMPS: readonly number[] = [1, 58];
const echoRequests: readonly number[] = [8, 128];
/** Where in a TCP header they are. */
const FLAGS = 13;
const flags = ['F', 'S', 'R', 'P', 'A', 'U', 'E', 'C'];

/** `tcp 100.64.0.2:40000 > 203.0.113.1:443 [S]`, and of an ICMP error what it is about. */
export function packetText(bytes: Uint8Array): string {
  const ends = new PacketEnds();
  if (!ends.read(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), 0, bytes.length))
    return 'no IP packet';
  return textOf(ends);
}

function textOf(ends: PacketEnds): string {
  const { protocol, view, transport, quoted, fragmentAt } = ends;
  const name = names[protocol] ?? `protocol ${protocol}`;
  const hasPorts = !ICMPS.includes(protocol);
  const from = endText(ends, ends.sourceAt, hasPorts ? ends.sourcePort : -1);
  const text = `${name} ${from} > ${endText(ends, ends.destinationAt, hasPorts ? ends.destinationPort : -1)}`;
  const piece = fragmentAt < 0 ? '' : fragmentAt === 0 ? ', first fragment' : `, fragment at ${fragmentAt}`;
  if (fragmentAt > 0 || ends.end - transport < 2) return `${text}${piece}`;
  if (quoted) {
    const [type, code] = [view.getUint8(transport), view.getUint8(transport + 1)];
    return `${text} [${errorNames[ends.family][type] ?? `type ${type}`}, code ${code}]${piece} about ${textOf(quoted)}`;
  }
  if (ICMPS.includes(protocol) && ends.sourcePort >= 0)
    return `${text} [echo ${echoRequests.includes(view.getUint8(transport)) ? 'request' : 'reply'}, identifier ${ends.sourcePort}]${piece}`;
  // What is quoted need not reach as far as its flags.
  if (protocol !== TCP || ends.end <= transport + FLAGS) return `${text}${piece}`;
  const set = flags.filter((_, bit) => (view.getUint8(transport + FLAGS) & (1 << bit)) !== 0).join('');
  return `${text} [${set}]${piece}`;
}

function endText({ family, addressBytes, view }: PacketEnds, at: number, port: number): string {
  let value = 0n;
  for (let i = 0; i < addressBytes; i++) value = (value << 8n) | BigInt(view.getUint8(at + i));
  const text = addressFromBigInt(family, value);
  return port < 0 ? text : family === 6 ? `[${text}]:${port}` : `${text}:${port}`;
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
