import { fc, test } from '@fast-check/vitest';
import { describe, expect } from 'vitest';
import { block, client, client6, origin, origin6, Pond } from '../../support/fish.ts';
import { translated } from '../../support/naive-nat.ts';
import { cut, fragmentOf, identificationOf, joined, pieceOf, renumbered, resummed } from '../../support/cut-packets.ts';
import {
  build,
  checksumProblem,
  echo,
  hexOf,
  tcp,
  udp,
  type Endpoint,
  type PacketFields,
} from '../../support/packets.ts';

const leased: Endpoint = { address: '198.51.100.10', port: 9_000 };
const leased6: Endpoint = { address: '2001:db8:d::10', port: 9_000 };
const blocks = [leased, leased6].flatMap(({ address, port }) =>
  (['tcp', 'udp', 'icmp'] as const).map((protocol) => block(address, protocol, port, port)),
);
const hopByHop = { type: 0, body: [5, 2, 0, 0] };
const forDestination = { type: 60, body: [1, 12] };
const bytes = (count: number) => Uint8Array.from({ length: count }, (_, i) => (i * 31 + (i >>> 8)) & 255);
const datagram = (count: number, more: object = {}) =>
  udp(client, origin, { fragment: 0, data: bytes(count), ...more });

/** Sends them in this order; what left, in the order in which it did. */
function sendAll(pond: Pond, fragments: readonly Uint8Array[]): Uint8Array[] {
  return fragments.flatMap((each) => {
    const sent = pond.send(each);
    expect(['forward', 'held']).toContain(sent.verdict);
    return sent.verdict === 'held' ? [] : [sent.bytes, ...pond.behind];
  });
}
const shares = (pond: Pond) => {
  const { fragmentedPackets, fragmentsHeld } = pond.forwarder.counters();
  return { fragmentedPackets, fragmentsHeld };
};
const nothingKept = { fragmentedPackets: 0, fragmentsHeld: 0 };

describe('fragments in whatever order', () => {
  const outward: readonly PacketFields[] = [
    datagram(3_000),
    datagram(3_000, { withoutChecksum: true }),
    datagram(200, { fragment: 0x4000, options: [1, 1, 1, 0] }),
    { ...echo(client.address, origin.address, 7), fragment: 0, data: bytes(2_000) },
    tcp(client, origin, 'S', { fragment: 0, data: bytes(1_500), tcpOptions: [2, 4, 5, 180, 1, 3, 3, 7] }),
    udp(client6, origin6, { data: bytes(3_000) }),
    udp(client6, origin6, { data: bytes(900), extensions: [hopByHop, forDestination] }),
    { ...echo(client6.address, origin6.address, 7), data: bytes(2_000) },
    tcp(client6, origin6, 'S', { data: bytes(1_500), extensions: [forDestination] }),
  ];
  const inward: readonly PacketFields[] = [
    udp(origin, leased, { fragment: 0, data: bytes(4_000) }),
    { ...echo(origin.address, leased.address, leased.port, 0), fragment: 0, data: bytes(999) },
    tcp(origin, leased, 'SA', { fragment: 0, acknowledgement: 1, data: bytes(700) }),
    udp(origin6, leased6, { data: bytes(4_000) }),
    { ...echo(origin6.address, leased6.address, leased6.port, 0), data: bytes(999), extensions: [hopByHop] },
    tcp(origin6, leased6, 'SA', { acknowledgement: 1, data: bytes(700) }),
  ];
  const order = fc.array(fc.nat(), { minLength: 64, maxLength: 64 });
  const size = fc.integer({ min: 5, max: 190 }).map((units) => units * 8);
  const shuffled = (fragments: readonly Uint8Array[], keys: readonly number[]) =>
    fragments
      .map((each, i) => ({ each, key: (keys[i % keys.length] ?? 0) * 1_000 + i }))
      .toSorted((a, b) => a.key - b.key)
      .map(({ each }) => each);

  test.prop([fc.constantFrom(...outward), size, order])('a packet leaves whole', (packet, each, keys) => {
    const pond = new Pond(blocks);
    const whole = build(packet);
    const left = sendAll(pond, shuffled(cut(whole, each), keys));
    expect(left).toHaveLength(cut(whole, each).length);
    // The first one leads: whoever forwards it on has its ports before he has the rest.
    expect(pieceOf(left[0]!).offset).toBe(0);
    const arrived = joined(left)!;
    const expected = translated(whole, 'source', packet.source.includes(':') ? leased6 : leased);
    expect(hexOf(arrived)).toBe(hexOf(renumbered(expected, identificationOf(arrived))));
    expect(checksumProblem(arrived)).toBeUndefined();
    expect(shares(pond)).toEqual(nothingKept);
    expect(pond.drops()).toEqual({});
    expect(pond.forwarder.counters()).toMatchObject({ packetsOut: left.length, flowsOpened: 1 });
  });

  test.prop([fc.constantFrom(...inward), size, order])('a packet comes in whole', (packet, each, keys) => {
    const pond = new Pond(blocks);
    const [own, remote] = packet.source.includes(':') ? [client6, origin6] : [client, origin];
    for (const begin of [udp(own, remote), echo(own.address, remote.address, 77), tcp(own, remote, 'S')])
      pond.send(begin);
    const whole = build(packet);
    const to = packet.protocol === 'icmp' ? { ...own, port: 77 } : own;
    const arrived = joined(sendAll(pond, shuffled(cut(whole, each), keys)))!;
    expect(hexOf(arrived)).toBe(hexOf(renumbered(translated(whole, 'destination', to), identificationOf(arrived))));
    expect(checksumProblem(arrived)).toBeUndefined();
    expect(shares(pond)).toEqual(nothingKept);
  });

  test('64 KiB behind a virtio header, the last fragment first', () => {
    const pond = new Pond(blocks, { vnetHeaderBytes: 10 });
    const whole = build(datagram(65_000));
    const arrived = joined(sendAll(pond, cut(whole, 1_480).toReversed()))!;
    expect(hexOf(arrived)).toBe(hexOf(renumbered(translated(whole, 'source', leased), identificationOf(arrived))));
  });

  test('fragments as large as a loopback device makes them', () => {
    const pond = new Pond(blocks);
    const fragments = cut(build(datagram(65_000)), 60_000).toReversed();
    expect(joined(sendAll(pond, fragments))).toBeDefined();
  });

  test('as many as a packet may have, the first of them last, in as little memory as there may be', () => {
    const pond = new Pond(blocks, { fragmentedPacketsMax: 2, fragmentBytesMax: 1_048_576 });
    const fragments = cut(build(datagram(128 * 8 - 8)), 8).toReversed();
    expect(fragments).toHaveLength(128);
    expect(joined(sendAll(pond, fragments))).toBeDefined();
  });

  test('those of several packets at once keep apart', () => {
    const pond = new Pond([block(leased.address, 'udp', 9_000, 9_003)]);
    const clients = [1, 2, 3].map((last) => ({ address: `100.96.0.${last}`, port: 5_000 }));
    // All of the same number, as clients that do not know of each other may choose it.
    const wholes = clients.map((each, i) => build(udp(each, origin, { fragment: 0, data: bytes(3_000 + i) })));
    const cuts = wholes.map((each) => cut(each, 1_000));
    const interleaved = [3, 2, 1, 0].flatMap((piece) => cuts.map((pieces) => pieces[piece]!).filter(Boolean));
    const left = sendAll(pond, interleaved);
    const numbers = new Set(left.map(identificationOf));
    expect(numbers.size).toBe(3);
    const lengths = [...numbers].map(
      (number) => joined(left.filter((each) => identificationOf(each) === number))!.length,
    );
    expect(lengths.toSorted()).toEqual(wholes.map((each) => each.length));
  });
});

describe('of IPv6', () => {
  const whole6 = build(udp(client6, origin6, { data: bytes(2_000) }));

  test('clients that chose the same number get different ones, of 32 bits', () => {
    const pond = new Pond([block(leased6.address, 'udp', 9_000, 9_003)]);
    const others = [client6, { ...client6, address: '2001:db8:c::3' }].map((each) =>
      cut(build(udp(each, origin6, { data: bytes(2_000) })), 1_000),
    );
    const left = sendAll(pond, [
      others[0]![1]!,
      others[1]![0]!,
      others[0]![0]!,
      others[1]![1]!,
      others[0]![2]!,
      others[1]![2]!,
    ]);
    const numbers = [...new Set(left.map(identificationOf))];
    expect(numbers).toHaveLength(2);
    expect(Math.max(...numbers)).toBeGreaterThan(0xffff);
    for (const number of numbers)
      expect(joined(left.filter((each) => identificationOf(each) === number))).toHaveLength(whole6.length);
  });

  test('an atomic fragment is none: it passes at once, and nothing waits for it (RFC 6946)', () => {
    const pond = new Pond(blocks);
    const atomic = udp(client6, origin6, { extensions: [{ type: 44, body: [0, 0, 0, 0, 0, 7] }] });
    pond.send(fragmentOf(whole6, 1_000, 504, 7));
    expect(pond.send(atomic).verdict).toBe('forward');
    expect(pond.behind).toEqual([]);
    expect(shares(pond).fragmentsHeld).toBe(1);
  });

  test('a first fragment without all headers (RFC 7112), an end beyond 65,535, and an overlap', () => {
    const options = build(udp(client6, origin6, { data: bytes(500), extensions: [forDestination] }));
    const pond = new Pond(blocks);
    expect(pond.send(fragmentOf(options, 0, 8)).verdict).toBe('fragment_too_small');
    const far = fragmentOf(whole6, 1_000, 1_000);
    far.set([0xff, 0xf8], 42);
    expect(pond.send(far).verdict).toBe('fragment_bad_length');
    expect(pond.send(fragmentOf(whole6, 0, 504)).verdict).toBe('forward');
    expect(pond.send(fragmentOf(whole6, 496, 504)).verdict).toBe('fragment_overlap');
    expect(pond.send(fragmentOf(whole6, 504, 504)).verdict).toBe('fragment_overlap');
  });
});

describe('a number of its own', () => {
  const whole = (fragment: number, more: object = {}) => udp(client, origin, { fragment, identification: 7, ...more });

  test('has every packet that may be cut, and no other', () => {
    const pond = new Pond(blocks);
    const numbers = [0, 0, 0].map(() => identificationOf(pond.send(whole(0)).bytes));
    const [first = 0] = numbers;
    expect(numbers).toEqual([first, (first + 1) & 0xffff, (first + 2) & 0xffff]);
    expect(identificationOf(pond.send(whole(0x4000)).bytes)).toBe(7);
    const back = [1, 2].map(() => pond.send(udp(origin, leased, { fragment: 0, identification: 9 })).bytes);
    expect(identificationOf(back[1]!)).toBe((identificationOf(back[0]!) + 1) & 0xffff);
    for (const each of back) expect(checksumProblem(each)).toBeUndefined();
  });

  test('is as many as the kernel will make segments of it', () => {
    const pond = new Pond(blocks, { vnetHeaderBytes: 10 });
    // UDP, 1,000 bytes a segment (GSO_UDP_L4).
    const header = Uint8Array.from([1, 5, 28, 0, 0xe8, 3, 20, 0, 6, 0]);
    const sent = pond.send(build(udp(client, origin, { fragment: 0, data: bytes(2_500) }), true), header).bytes;
    const after = pond.send(whole(0)).bytes;
    expect((identificationOf(after) - identificationOf(sent)) & 0xffff).toBe(3);
  });
});

describe('what waits for its first fragment', () => {
  const [first, second, third] = cut(build(datagram(2_500)), 1_000) as [Uint8Array, Uint8Array, Uint8Array];

  test('is dropped when that does not come in time, and so is what comes later', () => {
    const pond = new Pond(blocks);
    expect(pond.send(third).verdict).toBe('held');
    expect(pond.send(second).verdict).toBe('held');
    expect(shares(pond)).toEqual({ fragmentedPackets: 1, fragmentsHeld: 2 });
    pond.pass(29);
    expect(shares(pond).fragmentsHeld).toBe(2);
    pond.pass(1);
    expect(shares(pond)).toEqual(nothingKept);
    expect(pond.drops()).toEqual({ fragment_timeout: 2 });
    // On its own, the first opens a flow, and the rest of it never comes.
    expect(pond.send(first).verdict).toBe('forward');
    expect(pond.behind).toEqual([]);
    pond.pass(30);
    expect(shares(pond)).toEqual(nothingKept);
    expect(pond.drops()).toEqual({ fragment_timeout: 2 });
  });

  test('is not joined to one that comes too late, even before anybody looked at the clock', () => {
    const pond = new Pond(blocks);
    pond.send(second);
    pond.nowMs += 30_000;
    expect(pond.send(first).verdict).toBe('forward');
    expect(pond.behind).toEqual([]);
    expect(pond.drops()).toEqual({ fragment_timeout: 1 });
  });

  test('is dropped when the first is, with what follows, and a packet sent again fares as it deserves', () => {
    const pond = new Pond([]);
    pond.send(second);
    expect(pond.send(first).verdict).toBe('no_lease');
    expect(pond.send(third).verdict).toBe('fragment_refused');
    expect(pond.drops()).toEqual({ no_lease: 1, fragment_refused: 2 });
    pond.forwarder.setBlocks(blocks, pond.nowMs);
    expect(joined(sendAll(pond, [first, third, second]))).toBeDefined();
  });

  test('from outside is dropped when nobody uses the port', () => {
    const pond = new Pond(blocks);
    const fragments = cut(build(udp(origin, leased, { fragment: 0, data: bytes(100) })), 56);
    expect(pond.send(fragments[1]!).verdict).toBe('held');
    expect(pond.send(fragments[0]!).verdict).toBe('no_flow');
    expect(shares(pond).fragmentsHeld).toBe(0);
  });
});

describe('what contradicts itself', () => {
  const whole = build(datagram(1_000));
  const piece = (from: number, length: number) => fragmentOf(whole, from, length);
  const last = piece(504, 504);

  test.each<[string, Uint8Array[], string[]]>([
    ['an overlap', [piece(0, 504), piece(496, 16), last], ['forward', 'fragment_overlap', 'fragment_overlap']],
    [
      'an overlap before the first',
      [piece(80, 16), piece(0, 88), last],
      ['held', 'fragment_overlap', 'fragment_overlap'],
    ],
    [
      'a gap filled by more',
      [piece(0, 8 * 4), piece(48, 16), piece(32, 24)],
      ['forward', 'forward', 'fragment_overlap'],
    ],
    ['two ends', [last, fragmentOf(whole.slice(0, 900), 504, 504)], ['held', 'fragment_overlap']],
    [
      'an end before what was there',
      [piece(800, 80), fragmentOf(whole.slice(0, 500), 400, 504)],
      ['held', 'fragment_overlap'],
    ],
    ['more behind the end', [fragmentOf(whole.slice(0, 500), 400, 504), piece(800, 80)], ['held', 'fragment_overlap']],
    ['the same once more', [piece(0, 504), piece(0, 504), last], ['forward', 'fragment_duplicate', 'forward']],
    ['part of it once more', [last, piece(512, 16), piece(0, 504)], ['held', 'fragment_duplicate', 'forward']],
  ])('%s', (_what, fragments, verdicts) => {
    const pond = new Pond(blocks);
    expect(fragments.map((each) => pond.send(each).verdict)).toEqual(verdicts);
    pond.pass(31);
    expect(shares(pond)).toEqual(nothingKept);
  });

  test('more fragments than anybody makes of a packet', () => {
    const pond = new Pond(blocks);
    const verdicts = cut(build(datagram(8 * 140)), 8).map((each) => pond.send(each).verdict);
    expect(new Set(verdicts.slice(0, 128))).toEqual(new Set(['forward']));
    expect(new Set(verdicts.slice(128))).toEqual(new Set(['fragment_too_many']));
  });

  test('a virtio header that wants a part summed or cut apart', () => {
    for (const header of [
      [1, 0, 0, 0, 0, 0, 20, 0, 6, 0],
      [0, 3, 0, 0, 200, 0, 0, 0, 0, 0],
    ])
      for (const fragment of [piece(0, 504), last])
        expect(new Pond(blocks, { vnetHeaderBytes: 10 }).send(fragment, Uint8Array.from(header)).verdict).toBe(
          'bad_vnet_header',
        );
  });
});

describe('a TCP segment in fragments', () => {
  const sequence = 1_000;
  const answer = (acknowledgement: number, flags: string, at = 1) =>
    tcp(origin, leased, flags, { sequence: at, acknowledgement });

  test('counts as far as its last byte', () => {
    const pond = new Pond(blocks);
    pond.send(tcp(client, origin, 'S', { sequence }));
    pond.send(tcp(origin, leased, 'SA', { sequence: 0, acknowledgement: sequence + 1 }));
    const segment = tcp(client, origin, 'AF', {
      sequence: sequence + 1,
      acknowledgement: 1,
      fragment: 0,
      data: bytes(4_000),
    });
    expect(joined(sendAll(pond, cut(build(segment), 1_480).toReversed()))).toBeDefined();
    // Everything is acknowledged, the FIN as well, and then the other FIN: a flow that ends.
    pond.send(answer(sequence + 4_002, 'A'));
    pond.send(answer(sequence + 4_002, 'AF'));
    expect(pond.forwarder.counters().tcpStrays).toBe(0);
    pond.send(tcp(client, origin, 'A', { sequence: sequence + 4_002, acknowledgement: 2 }));
    expect([...pond.forwarder.flows()].map((flow) => flow.state)).toEqual(['resting']);
  });
});

test('the last fragment of a segment says nothing about the connection that has its row by now', () => {
  const pond = new Pond(blocks, { flowsMax: 1, timers: { tcpEstablishedS: 2, tcpRestS: 0 } });
  const other: Endpoint = { address: '100.96.0.9', port: 1_234 };
  const begin = (from: Endpoint, sequence: number) => {
    expect(pond.send(tcp(from, origin, 'S', { sequence })).verdict).toBe('forward');
    pond.send(tcp(origin, leased, 'SA', { sequence: 1, acknowledgement: sequence + 1 }));
    pond.send(tcp(from, origin, 'A', { sequence: sequence + 1, acknowledgement: 2 }));
  };
  begin(client, 1_000);
  const data = bytes(4_000);
  const segment = build(tcp(client, origin, 'A', { sequence: 1_001, acknowledgement: 2, fragment: 0, data }));
  const pieces = cut(segment, 1_480);
  for (const piece of pieces.slice(0, -1)) expect(pond.send(piece).verdict).toBe('forward');
  pond.pass(5);
  expect(pond.forwarder.counters().flowsLive).toBe(0);
  begin(other, 4_000);
  expect(pond.send(pieces.at(-1)!).verdict).toBe('forward');
  // Who acknowledges what only the other client has sent, 5,001 in all, does not speak of this connection.
  pond.send(tcp(origin, leased, 'A', { sequence: 2, acknowledgement: 5_001 }));
  expect(pond.forwarder.counters().tcpStrays).toBe(1);
});

test('what follows does not leave when the lease has ended in between', () => {
  const pond = new Pond(blocks);
  const [first, second] = cut(build(datagram(1_500)), 1_000) as [Uint8Array, Uint8Array];
  expect(pond.send(first).verdict).toBe('forward');
  pond.forwarder.setBlocks([block(leased.address, 'udp', 9_100, 9_100)], pond.nowMs);
  expect(pond.send(second).verdict).toBe('held');
  pond.pass(31);
  expect(shares(pond)).toEqual(nothingKept);
});

describe('memory', () => {
  const limits = { fragmentedPacketsMax: 64, fragmentBytesMax: 1_048_576 };
  /** A fragment whose first never comes. */
  const orphan = (from: string, to: string, identification: number, length = 64) =>
    resummed(
      fragmentOf(
        build(
          udp(
            { address: from, port: 1 },
            { address: to, port: 1 },
            { fragment: 0, identification, data: bytes(length + 8) },
          ),
        ),
        8,
        length,
      ),
    );

  test('is bounded, whoever sends whatever, and comes back', () => {
    const pond = new Pond(blocks, limits);
    for (let i = 0; i < 2_000; i++) {
      const length = 8 * (1 + ((i * 37) % 900));
      expect(['held', 'fragment_evicted']).toContain(
        pond.send(orphan(`100.96.${i % 7}.${i % 200}`, origin.address, i, length)).verdict,
      );
      expect(pond.send(orphan(`203.0.${i % 11}.${i % 250}`, leased.address, i, length)).verdict).toBe('held');
      const { fragmentedPackets, fragmentsHeld } = shares(pond);
      expect(fragmentedPackets).toBeLessThanOrEqual(64);
      expect(fragmentsHeld).toBeLessThanOrEqual(64);
    }
    pond.pass(31);
    expect(shares(pond)).toEqual(nothingKept);
    const { fragment_evicted = 0, fragment_timeout = 0 } = pond.drops();
    expect(fragment_evicted + fragment_timeout).toBe(4_000);
  });

  test('who fills it drives out what is his own', () => {
    const pond = new Pond(blocks, limits);
    const [first, second] = cut(build(datagram(1_500)), 1_000) as [Uint8Array, Uint8Array];
    pond.send(second);
    // From one address, and from many that have one each before any has two.
    for (let i = 0; i < 500; i++) pond.send(orphan('100.96.0.9', origin.address, i));
    for (let i = 0; i < 500; i++) pond.send(orphan(`100.96.1.${i % 8}`, origin.address, i));
    // And all that could come from outside.
    for (let i = 0; i < 500; i++) pond.send(orphan(`203.0.113.${i % 250}`, leased.address, i));
    expect(joined(sendAll(pond, [first]))).toBeDefined();
  });
});
