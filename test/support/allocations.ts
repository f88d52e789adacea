/**
 * How many bytes of JavaScript objects fish makes for a packet, as a line of JSON by kind of packet. To be run by a Node of its
 * own, whose young generation holds all that is measured at once (`--min-semi-space-size`): then nothing is collected meanwhile,
 * and what the heap has grown by is what was made. `--expose-gc`; COUNT packets of each kind.
 */
import { PerformanceObserver } from 'node:perf_hooks';
import type { Address } from '../../src/net/address.ts';
import { FORWARD, HELD } from '../../src/fish/verdicts.ts';
import { fragmentOf } from './cut-packets.ts';
import { block, client, client6, connect, origin, origin6, outside, Pond, shared } from './fish.ts';
import { build, echo, tcp, udp, type Endpoint, type PacketFields } from './packets.ts';

const count = Number(process.argv[2]);
const vnetHeaderBytes = 10;
const flows = 200;
const data = new Uint8Array(1_000);
const { gc: collect } = globalThis;
if (collect === undefined || !(count > 0)) throw new Error('to be run as node --expose-gc allocations.ts COUNT');

const leased4 = '198.51.100.10';
const leased6 = '2001:db8:d::10';
const blocks = [
  block(leased4, 'tcp', 8_192, 9_215),
  block(leased4, 'udp', 8_192, 9_215),
  block(leased4, 'icmp', 8_192, 9_215),
  block('198.51.100.11', 'tcp', 8_192, 9_215, shared('late')),
  block(leased6, 'tcp', 8_192, 9_215),
  block(leased6, 'udp', 8_192, 9_215),
];

function framed(packet: PacketFields | Uint8Array): Uint8Array {
  const bytes = packet instanceof Uint8Array ? packet : build(packet);
  const frame = new Uint8Array(vnetHeaderBytes + bytes.length);
  frame.set(bytes, vnetHeaderBytes);
  return frame;
}

const each = (packetsOf: (index: number) => readonly (PacketFields | Uint8Array)[]): Uint8Array[] =>
  Array.from({ length: flows }, (_, index) => packetsOf(index).map(framed)).flat();

/** A connection's data in both directions. */
const connected = (pond: Pond, from: Endpoint, to: Endpoint) =>
  each((index) => {
    const inside = { ...from, port: 20_000 + index };
    const leased = connect(pond, inside, to);
    return [
      tcp(inside, to, 'A', { data, sequence: 101, acknowledgement: 501 }),
      tcp(to, leased, 'A', { data, sequence: 501, acknowledgement: 1_101 }),
    ];
  });

const answered = (pond: Pond, from: Endpoint, to: Endpoint) =>
  each((index) => {
    const inside = { ...from, port: 20_000 + index };
    return [udp(inside, to, { data }), udp(to, outside(pond.send(udp(inside, to))), { data })];
  });

/** From client to client by their leased ports. */
const between = (pond: Pond) =>
  each((index) => {
    const [one, other] = [client, { ...client, address: '100.96.0.9' }].map((who) => ({
      ...who,
      port: 20_000 + index,
    }));
    const leased = outside(pond.send(udp(one!, origin)));
    return [udp(other!, leased, { data })];
  });

/** About what clients have sent: that it is too large, which is what the largest transfers bring about. */
const errors = (pond: Pond) =>
  each((index) => {
    const inside = { ...client, port: 20_000 + index };
    const leased = outside(pond.send(udp(inside, origin)));
    const sent = build(udp(leased, origin, { data: new Uint8Array(100) })).slice(0, 60);
    const from = { source: '192.0.2.33', destination: leased.address };
    return [{ protocol: 'icmp', type: 3, code: 4, identifier: 0, sequence: 1_400, data: sent, ...from }];
  });

const fragments = (from: Endpoint, to: Endpoint) =>
  each((index) => {
    const identification = index + 1;
    const packet = build(udp({ ...from, port: 20_000 + index }, to, { data, fragment: 0, identification }));
    return [fragmentOf(packet, 0, 504, identification), fragmentOf(packet, 504, 600, identification)];
  });

const kinds: Readonly<Record<string, (pond: Pond) => Uint8Array[]>> = {
  'TCP over IPv4': (pond) => connected(pond, client, origin),
  'TCP over IPv6': (pond) => connected(pond, client6, origin6),
  'UDP over IPv4': (pond) => answered(pond, client, origin),
  'UDP over IPv6': (pond) => answered(pond, client6, origin6),
  'echo requests': () => each((index) => [echo(client.address, origin.address, index + 1)]),
  'UDP between clients': between,
  'ICMP errors': errors,
  'fragments over IPv4': () => fragments(client, origin),
  'fragments over IPv6': () => fragments(client6, origin6),
  'what is dropped': () => each((index) => [udp(origin, { address: leased4, port: 8_192 + index })]),
};

/** Numbers that are objects already, which a clock's are: the null keeps them from being copied out of a row of plain ones. */
const instants = [null, ...Array.from({ length: 63 }, (_, index) => 1_000.125 + index / 4)].slice(1) as number[];

let collections = 0;
const observer = new PerformanceObserver((list) => (collections += list.getEntries().length));
observer.observe({ entryTypes: ['gc'] });

const result: Record<string, number> = {};
for (const [name, packetsOf] of Object.entries(kinds)) {
  const settings = {
    vnetHeaderBytes,
    flowsMax: 2_048,
    icmpSource: '100.96.0.1' as Address,
    icmpErrorsPerSMax: 0,
  } as const;
  const pond = new Pond(blocks, settings);
  const packets = packetsOf(pond);
  const buffer = new Uint8Array(70_000);
  const { forwarder } = pond;
  const handle = (times: number): number => {
    let forwarded = 0;
    for (let i = 0; i < times; i++) {
      const packet = packets[i % packets.length]!;
      buffer.set(packet);
      const verdict = forwarder.handle(buffer, packet.length, instants[i % instants.length]!);
      if (verdict === FORWARD || verdict === HELD) forwarded++;
    }
    return forwarded;
  };
  // Until it is compiled.
  for (let round = 0; round < 5; round++) handle(Math.ceil(count / 5));
  collect();
  await new Promise((resolve) => setTimeout(resolve, 20));
  const collected = collections;
  const before = process.memoryUsage().heapUsed;
  const forwarded = handle(count);
  const after = process.memoryUsage().heapUsed;
  await new Promise((resolve) => setTimeout(resolve, 20));
  if (collections !== collected) throw new Error(`${name}: more was made than the young generation holds`);
  if (name !== 'what is dropped' && forwarded < count * 0.9)
    throw new Error(`${name}: ${forwarded} of ${count} went through`);
  result[name] = (after - before) / count;
}
console.log(JSON.stringify(result));
