import { fragmentOf } from './cut-packets.ts';
import type { Pond } from './fish.ts';
import { build, echo, read, tcp, udp, type Endpoint, type PacketFields } from './packets.ts';

/** More than there is room for in any pond that is filled here. */
const attempts = 600;
/** The last flow is gone after the longest silence, and the rest after it. */
const silences_s = [60, 8_000, 300, 300];
/** Each takes two chunks of the memory for what waits, and all of a packet 32 of its 256: one that is lost costs a packet. */
const piece_bytes = 3_000;
const piecesPerPacket = 16;
const pieces = 160;

/** What fish has although nobody says anything any more, by its own counters and those of the kernel. */
export function leftIn({ forwarder, kernel, memory }: Pond): string[] {
  const counters = forwarder.counters();
  const { flowsLive, flowsResting, clients, placeholdersHeld, fragmentedPackets, fragmentsHeld } = counters;
  const counts = {
    flowsLive,
    flowsResting,
    clients,
    placeholdersHeld,
    fragmentedPackets,
    fragmentsHeld,
    'placeholders of the kernel': kernel.held.size,
    'flows in the table': [...forwarder.flows()].length,
    'peers of nobody': memory.columns.peers.owner.filter((owner) => owner !== 0).length,
    ...Object.fromEntries(counters.blocks.map(({ lease, flows }) => [`flows of ${lease}`, flows])),
    ...Object.fromEntries(
      forwarder.portUse().protocols.map(({ protocol, family, busiest }) => [`${protocol} over IPv${family}`, busiest]),
    ),
  };
  return Object.entries(counts).flatMap(([what, count]) => (count === 0 ? [] : [`${count} ${what}`]));
}

/** How much of everything can be had, found out by taking all of it; nothing of it is left afterwards. */
export function roomIn(pond: Pond): Record<string, number> {
  const client = (index: number): Endpoint => ({ address: `100.90.${index >> 8}.${index & 255}`, port: 20_000 });
  const remote = (index: number): Endpoint => ({
    address: `203.0.${100 + (index >> 7)}.${1 + (index & 127)}`,
    port: 7_000 + index,
  });
  const client6 = (index: number): Endpoint => ({ ...client(index), address: `2001:db8:c:${index.toString(16)}::1` });
  const remote6 = (index: number): Endpoint => ({ ...remote(index), address: `2001:db8:1::${index.toString(16)}` });
  const room: Record<string, number> = {};
  const take = (
    what: string,
    packetOf: (index: number) => PacketFields | Uint8Array,
    verdict: string,
    times = attempts,
    ...counts: ('placeholdersHeld' | 'fragmentedPackets' | 'fragmentsHeld')[]
  ) => {
    room[what] = Array.from({ length: times }, (_, index) => pond.send(packetOf(index)).verdict).filter(
      (each) => each === verdict,
    ).length;
    const counters = pond.forwarder.counters();
    for (const count of counts) room[`${what}, ${count}`] = counters[count];
    for (const seconds of silences_s) pond.pass(seconds);
  };
  take('TCP', (index) => tcp(client(index), remote(index), 'S'), 'forward', attempts, 'placeholdersHeld');
  take('TCP over IPv6', (index) => tcp(client6(index), remote6(index), 'S'), 'forward');
  take('ports of UDP', (index) => udp(client(index), remote(0)), 'forward');
  take('ports of UDP over IPv6', (index) => udp(client6(index), remote6(0)), 'forward');
  const called = pond.send(tcp(client(0), remote(0), 'S'));
  const { source: address, sourcePort: port } = read(called.bytes);
  take('calls', (index) => tcp(remote(1 + index), { address, port }, 'S'), 'forward');
  take('peers of UDP', (index) => udp(client(0), remote(index)), 'forward');
  take('echo', (index) => echo(client(index).address, remote(0).address, 5), 'forward');
  const small = (index: number) => build(udp(client(index), remote(0), { data: new Uint8Array(40), fragment: 0 }));
  take(
    'packets in pieces',
    (index) => fragmentOf(small(index), 8 * (1 + (index % 2)), 8),
    'held',
    attempts,
    'fragmentedPackets',
  );
  // A source of its own each, as none may have more than its share.
  const data = new Uint8Array(piece_bytes * (piecesPerPacket + 1));
  const packets = Array.from({ length: Math.ceil(pieces / piecesPerPacket) }, (_, index) =>
    build(udp(client(index), remote(0), { data, fragment: 0, identification: index })),
  );
  const piece = (index: number) =>
    fragmentOf(
      packets[Math.floor(index / piecesPerPacket)]!,
      piece_bytes * (1 + (index % piecesPerPacket)),
      piece_bytes,
    );
  take('bytes that wait', piece, 'held', pieces, 'fragmentsHeld');
  return room;
}
