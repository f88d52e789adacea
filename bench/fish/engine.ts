import { figureOf, type Figure } from '../figures.ts';
import { block, client, client6, connect, origin, origin6, Pond } from '../../test/support/fish.ts';
import { build, tcp, udp, type Endpoint, type PacketFields } from '../../test/support/packets.ts';
import { FORWARD } from '../../src/fish/verdicts.ts';

const flowCount = 1_000;
const packetsPerRound = 400_000;
const connectionsPerRound = 40_000;
/** What the TUN puts in front of every packet. */
const vnetHeaderBytes = 10;
const leased4 = '198.51.100.10';
const leased6 = '2001:db8:f::10';
const data = new Uint8Array(1_000);
/** Not the one of the connections that last. */
const remote: Endpoint = { address: '203.0.113.2', port: 443 };
/** Their rest is a second: half of the ports are at rest at a time. */
const betweenConnections_ms = 2;

type Exchange = Readonly<{ name: string; packets: readonly Uint8Array[] }>;

/**
 * What fish's own code takes of the processor for a packet: no kernel, no TUN, no system call, and nothing beside it. It is what a
 * change of the translation changes, and little of what a packet costs in the end.
 */
export async function* engine(rounds: number): AsyncGenerator<Figure, void, void> {
  const pond = new Pond(
    [
      block(leased4, 'tcp', 10_240, 12_287),
      block(leased4, 'udp', 10_240, 12_287),
      block(leased6, 'tcp', 10_240, 12_287),
    ],
    { vnetHeaderBytes, flowsMax: 8_192, timers: { tcpRestS: 1 } },
  );
  const exchanges = [
    { name: 'fish.engine.tcp4', packets: connected(pond, client, origin) },
    { name: 'fish.engine.tcp6', packets: connected(pond, client6, origin6) },
    { name: 'fish.engine.udp4', packets: answered(pond) },
  ];
  for (const exchange of exchanges) handleAll(pond, exchange);
  connectAll(pond);
  const costs = new Map<string, number[]>();
  const note = (name: string, cost: number) => costs.set(name, [...(costs.get(name) ?? []), cost]);
  for (let round = 0; round < rounds; round++) {
    for (const exchange of exchanges) note(exchange.name, handleAll(pond, exchange));
    note('fish.engine.connection', connectAll(pond));
  }
  for (const [name, each] of costs)
    yield figureOf(name, name === 'fish.engine.connection' ? 'ns/connection' : 'ns/packet', each);
}

/** The packets of established connections, one each way. */
const connected = (pond: Pond, from: Endpoint, to: Endpoint): readonly Uint8Array[] =>
  Array.from({ length: flowCount }, (_, index) => {
    const inside = { ...from, port: 1_024 + index };
    const outside = connect(pond, inside, to);
    const told = { data, sequence: 101, acknowledgement: 501 };
    return [
      framed(tcp(inside, to, 'A', told)),
      framed(tcp(to, outside, 'A', { data, sequence: 501, acknowledgement: 1_101 })),
    ];
  }).flat();

const answered = (pond: Pond): readonly Uint8Array[] =>
  Array.from({ length: flowCount }, (_, index) => {
    const inside = { ...client, port: 1_024 + index };
    const sent = pond.send(udp(inside, origin, { data }));
    const view = new DataView(sent.bytes.buffer, sent.bytes.byteOffset);
    return [
      framed(udp(inside, origin, { data })),
      framed(udp(origin, { address: leased4, port: view.getUint16(20) }, { data })),
    ];
  }).flat();

function framed(packet: PacketFields): Uint8Array {
  const bytes = build(packet);
  const frame = new Uint8Array(vnetHeaderBytes + bytes.length);
  frame.set(bytes, vnetHeaderBytes);
  return frame;
}

/** Nanoseconds of processor time for each. Only their headers are put there anew: of the data nothing is read or changed. */
function handleAll({ forwarder, nowMs }: Pond, { name, packets }: Exchange): number {
  const buffer = new Uint8Array(2_048);
  const heads = packets.map((each) => each.slice(0, 80));
  let forwarded = 0;
  const before = process.cpuUsage();
  for (let at = 0, index = 0; at < packetsPerRound; at++, index = index + 1 === heads.length ? 0 : index + 1) {
    buffer.set(heads[index]!);
    if (forwarder.handle(buffer, packets[index]!.length, nowMs) === FORWARD) forwarded++;
  }
  const { user } = process.cpuUsage(before);
  if (forwarded !== packetsPerRound) throw new Error(`${name}: ${forwarded} of ${packetsPerRound}`);
  return (user * 1_000) / packetsPerRound;
}

const leasedAt = vnetHeaderBytes + 20;
/** From the first SYN to the last ACK: who sends, and what. */
const story = [
  ['out', 'S', 100, 0],
  ['in', 'SA', 500, 101],
  ['out', 'A', 101, 501],
  ['out', 'FA', 101, 501],
  ['in', 'FA', 501, 102],
  ['out', 'A', 102, 502],
] as const;

/** Nanoseconds of processor time for each connection that carries nothing: opened, closed in order, its rest over. */
function connectAll(pond: Pond): number {
  const { forwarder } = pond;
  const buffer = new Uint8Array(2_048);
  const view = new DataView(buffer.buffer);
  const leased = { address: leased4, port: 1 };
  const packets = story.map(([way, flags, sequence, acknowledgement]) => ({
    isOut: way === 'out',
    frame: framed(
      way === 'out'
        ? tcp(client, remote, flags, { sequence, acknowledgement })
        : tcp(remote, leased, flags, { sequence, acknowledgement }),
    ),
  }));
  let forwarded = 0;
  const before = process.cpuUsage();
  for (let connection = 0; connection < connectionsPerRound; connection++) {
    pond.nowMs += betweenConnections_ms;
    forwarder.expire(pond.nowMs, 64);
    let port = 0;
    for (const { isOut, frame } of packets) {
      buffer.set(frame);
      // The transport's checksum is not looked at, only moved.
      if (isOut) view.setUint16(leasedAt, 1_024 + (connection % 60_000));
      else view.setUint16(leasedAt + 2, port);
      if (forwarder.handle(buffer, frame.length, pond.nowMs) === FORWARD) forwarded++;
      if (isOut) port = view.getUint16(leasedAt);
    }
  }
  const { user } = process.cpuUsage(before);
  if (forwarded !== connectionsPerRound * story.length)
    throw new Error(`${forwarded} packets of ${connectionsPerRound} connections`);
  return (user * 1_000) / connectionsPerRound;
}
