import { fc } from '@fast-check/vitest';
import { over6 } from './over6.ts';
import { headBytesOf } from './cut-packets.ts';
import { block, shared } from './fish.ts';
import type { Endpoint, PacketFields } from './packets.ts';
import { isIPv6, isIPv6Packet, transportOf6, type Extension } from './packets6.ts';
import type { TcpMove } from './scripted-tcp.ts';

/** Who is there, what they may do, and how what they send is made. */

export const clients: Endpoint[] = [
  { address: '100.96.0.2', port: 1_000 },
  { address: '100.96.0.2', port: 1_001 },
  { address: '100.96.0.3', port: 1_000 },
];
export const remotes: Endpoint[] = [
  { address: '203.0.113.1', port: 443 },
  { address: '203.0.113.1', port: 53 },
  { address: '203.0.113.2', port: 443 },
];
export const router = '192.0.2.254';
export const nearRouter = '100.64.0.1';
export const blocks = [
  block('198.51.100.10', 'tcp', 9_000, 9_003, shared('late')),
  block('198.51.100.11', 'tcp', 9_000, 9_000),
  block('198.51.100.10', 'udp', 9_000, 9_001),
  block('198.51.100.10', 'icmp', 9_004, 9_007),
];

export const blocks6 = blocks.map((each) => ({ ...each, address: over6(each.address) }));

const hopByHop: Extension = { type: 0, body: [5, 2, 0, 0] };
const forDestination: Extension = { type: 60, body: [1, 12] };
type Kind = Readonly<{
  options: readonly number[];
  extensions: readonly Extension[];
  reason?: string;
  reason6?: string;
}>;
/** IPv4 options, or extension headers, and why a packet with them is dropped. Those that are good come first. */
export const optionKinds: readonly Kind[] = [
  { options: [], extensions: [] },
  { options: [1, 1, 1, 0], extensions: [hopByHop] },
  { options: [7, 7, 4, 0, 0, 0, 0, 0], extensions: [forDestination] },
  { options: [68, 12, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0], extensions: [{ type: 43, body: [4, 0, 0, 0, 0, 0] }] },
  { options: [222, 6, 1, 2, 3, 4, 1, 1], extensions: [hopByHop, { type: 43, body: [4, 0] }, forDestination] },
  {
    options: [131, 7, 4, 192, 0, 2, 1, 0],
    reason: 'source_route',
    extensions: [{ type: 43, body: [0, 0] }],
    reason6: 'routing_header',
  },
  {
    options: [1, 137, 3, 4],
    reason: 'source_route',
    extensions: [{ type: 43, body: [4, 1] }],
    reason6: 'routing_header',
  },
  {
    options: [222, 9, 0, 0],
    reason: 'bad_ip_option',
    extensions: [hopByHop, hopByHop],
    reason6: 'bad_extension_headers',
  },
  {
    options: [7, 3, 3, 0],
    reason: 'bad_ip_option',
    extensions: [forDestination, hopByHop],
    reason6: 'bad_extension_headers',
  },
];
export const goodKinds = 5;

/** Options of TCP: what a SYN announces, at even and odd places, once and twice, and lists that make no sense somewhere. */
const tcpOptionKinds: readonly (readonly number[])[] = [
  [],
  [2, 4, 5, 180],
  [2, 4, 2, 24],
  [1, 2, 4, 5, 180, 1, 1, 1],
  [3, 3, 7, 2, 4, 255, 255, 0],
  [2, 4, 35, 40, 1, 2, 4, 5, 180, 1, 1, 1],
  [2, 0, 5, 180],
  [2, 1, 5, 180],
  [1, 1, 2, 4],
  [2, 6, 5, 180, 0, 0, 1, 1],
  [0, 2, 4, 5, 180, 0, 0, 0],
  [2, 4, 5, 180, 8, 12, 1, 2],
];
/** To which they are lowered, IPv4 and IPv6. */
export const mssMax = { 4: 1_360, 6: 1_211 } as const;

/** How a packet is made, beside what it says. */
export type Make = {
  options: number;
  tcpOptions: number;
  mayBeCut: boolean;
  identification: number;
  checksum: 'whole' | 'none' | 'partial';
  /** Of the data. */
  bytes: number;
};
/** Where pieces begin and how long they are, in eighths of the packet: not more than a few hit the same place. */
type Pieces = readonly Readonly<{ from: number; units: number; key: number }>[];
type Who = { client: number; remote: number };
type Steps = ['out' | 'in', TcpMove][];

export type PathCommand =
  | { do: 'send'; protocol: 'udp' | 'icmp'; who: Who; way: 'out' | 'in'; make: Make }
  | {
      do: 'cut';
      protocol: 'udp' | 'icmp';
      who: Who;
      way: 'out' | 'in';
      make: Make;
      every: number;
      more: Pieces;
      keys: number[];
    }
  /** Some of the fragments that are on their way arrive. */
  | { do: 'deliver'; picks: number[] }
  | { do: 'tcp'; who: Who; steps: Steps; make: Make; every: number }
  | { do: 'error'; about: number; bytes: number; type: 3 | 11 | 12; near: boolean; make: Make }
  | { do: 'pass'; seconds: number }
  | { do: 'blocks'; members: typeof blocks }
  | { do: 'restart' };

const who = fc.record({ client: fc.nat({ max: clients.length - 1 }), remote: fc.nat({ max: remotes.length - 1 }) });
const way = fc.constantFrom('out' as const, 'in' as const);
const datagram = fc.constantFrom('udp' as const, 'icmp' as const);
const make: fc.Arbitrary<Make> = fc.record({
  options: fc.oneof(
    { weight: 6, arbitrary: fc.constant(0) },
    { weight: 4, arbitrary: fc.nat({ max: optionKinds.length - 1 }) },
  ),
  tcpOptions: fc.nat({ max: tcpOptionKinds.length - 1 }),
  mayBeCut: fc.boolean(),
  identification: fc.nat({ max: 3 }),
  checksum: fc.constantFrom('whole', 'whole', 'none', 'partial'),
  bytes: fc.oneof(fc.nat({ max: 40 }), fc.nat({ max: 3_000 })),
});
const steps: fc.Arbitrary<Steps> = fc.oneof(
  fc.constantFrom<Steps>(
    [
      ['out', 'begin'],
      ['in', 'answer'],
      ['out', 'acknowledge'],
    ],
    [
      ['out', 'data'],
      ['in', 'data'],
      ['out', 'acknowledge'],
    ],
    [
      ['out', 'finish'],
      ['in', 'finish'],
      ['out', 'acknowledge'],
    ],
    [['in', 'reset']],
    [
      ['in', 'begin'],
      ['out', 'answer'],
      ['in', 'acknowledge'],
    ],
    [
      ['in', 'begin'],
      ['out', 'reset'],
    ],
  ),
  fc
    .tuple(way, fc.constantFrom<TcpMove>('begin', 'answer', 'data', 'acknowledge', 'finish', 'reset'))
    .map((step) => [step]),
);

export const pathCommand: fc.Arbitrary<PathCommand> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant('send' as const), protocol: datagram, who, way, make }) },
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant('cut' as const),
      protocol: datagram,
      who,
      way,
      make,
      every: fc.integer({ min: 1, max: 120 }),
      more: fc.oneof(
        { weight: 3, arbitrary: fc.constant([]) },
        {
          weight: 1,
          arbitrary: fc.array(
            fc.record({ from: fc.nat({ max: 90 }), units: fc.integer({ min: 1, max: 90 }), key: fc.nat() }),
            { maxLength: 2 },
          ),
        },
      ),
      keys: fc.array(fc.nat(), { minLength: 8, maxLength: 8 }),
    }),
  },
  {
    weight: 10,
    arbitrary: fc.record({
      do: fc.constant('deliver' as const),
      picks: fc.array(fc.nat(), { minLength: 1, maxLength: 30 }),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({ do: fc.constant('tcp' as const), who, steps, make, every: fc.integer({ min: 5, max: 60 }) }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('error' as const),
      about: fc.nat(),
      bytes: fc.nat({ max: 600 }),
      type: fc.constantFrom(3 as const, 11 as const, 12 as const),
      near: fc.boolean(),
      make,
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant('pass' as const), seconds: fc.constantFrom(1, 10, 29, 30, 61, 301) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant('blocks' as const), members: fc.subarray(blocks, { minLength: 2 }) }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('restart' as const) }) },
);

export const vnetHeader_bytes = 10;
/** Where the transport begins. */
export const headerBytesOf = (bytes: Uint8Array) => (isIPv6Packet(bytes) ? transportOf6(bytes).at : headBytesOf(bytes));

/** The packet with all that `how` says about it. */
export function made(fields: PacketFields, how: Make): PacketFields {
  const { options, extensions } = optionKinds[how.options]!;
  const common = { options, extensions, fragment: how.mayBeCut ? 0 : 0x4000, identification: how.identification };
  const data = Uint8Array.from({ length: how.bytes }, (_, i) => (i * 31 + how.identification) & 255);
  if (fields.protocol === 'tcp') return { ...fields, ...common, tcpOptions: tcpOptionKinds[how.tcpOptions]! };
  if (fields.protocol === 'icmp') return { ...fields, ...common, data };
  return { ...fields, ...common, data, withoutChecksum: how.checksum === 'none' && !isIPv6(fields.source) };
}

/** The virtio header of a packet whose checksum is left to others, and which is cut into segments if it is long. */
export function partialHeader(bytes: Uint8Array, fields: PacketFields, dataBytes: number): Uint8Array {
  const header = new Uint8Array(vnetHeader_bytes);
  const start = headerBytesOf(bytes);
  header.set([1, 0, 0, 0, 0, 0, start, 0, fields.protocol === 'tcp' ? 16 : 6, 0]);
  // GSO_TCPV4, GSO_TCPV6, or GSO_UDP_L4; segments of 512 bytes.
  const kind = fields.protocol === 'udp' ? 5 : isIPv6Packet(bytes) ? 4 : 1;
  if (dataBytes > 600) header.set([kind, 0, 0, 0, 2], 1);
  return header;
}
