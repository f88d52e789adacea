import { fc, test } from '@fast-check/vitest';
import { describe, expect } from 'vitest';
import { dropReasons } from '../../src/fish/verdicts.ts';
import { block, client, origin, Pond } from '../support/fish.ts';
import { fragmentOf } from '../support/cut-packets.ts';
import {
  build,
  checksumProblem,
  echo,
  hexOf,
  onesComplementSum,
  read,
  tcp,
  udp,
  type PacketFields,
} from '../support/packets.ts';

const address = '198.51.100.10';
const blocks = (['tcp', 'udp', 'icmp'] as const).map((protocol) => block(address, protocol, 8_192, 9_215));
const options = [7, 7, 4, 0, 0, 0, 0, 0];

const valid: Record<string, PacketFields> = {
  tcp: tcp(client, origin, 'S', { tcpOptions: [2, 4, 5, 180, 1, 3, 3, 7] }),
  'tcp with IP options': tcp(client, origin, 'S', { options, data: Uint8Array.of(1) }),
  udp: udp(client, origin),
  'udp with IP options': udp(client, origin, { options }),
  icmp: echo(client.address, origin.address, 7),
};

const setWord = (bytes: Uint8Array, at: number, value: number) => bytes.set([(value >>> 8) & 255, value & 255], at);
/** Changes a valid packet, and sums its header checksum anew, so that nothing but the change is wrong with it. */
function changed(packet: PacketFields, change: (bytes: Uint8Array) => void): Uint8Array {
  const bytes = build(packet);
  change(bytes);
  setWord(bytes, 10, 0);
  const headerBytes = Math.min(Math.max(20, ((bytes[0] ?? 0) & 15) * 4), bytes.length);
  setWord(bytes, 10, 0xffff - onesComplementSum(bytes.subarray(0, headerBytes)));
  return bytes;
}

describe.each(Object.entries(valid))('%s', (_name, packet) => {
  const whole = build(packet);

  test('passes whole, with or without a frame’s padding behind it', () => {
    expect(new Pond(blocks).send(whole).verdict).toBe('forward');
    expect(new Pond(blocks).send(Uint8Array.from([...whole, 0, 0, 0, 0])).verdict).toBe('forward');
  });

  test.each([0, 10, 12] as const)(
    'is dropped at every length that is not its own, behind %i bytes of virtio header',
    (vnetHeaderBytes) => {
      const pond = new Pond(blocks, { vnetHeaderBytes });
      for (let length = 0; length < whole.length; length++) {
        expect(pond.send(whole.slice(0, length)).verdict).toBe('truncated');
        // The same with a total length that claims no more than there is.
        if (length < 20) continue;
        const honest = changed(packet, (bytes) => setWord(bytes, 2, length)).slice(0, length);
        const { verdict, bytes } = pond.send(honest);
        // Data may be cut off, whose checksum is then wrong, and has to stay so; of the headers nothing may be missing.
        if (verdict === 'forward') expect(checksumProblem(bytes)).toBe(checksumProblem(honest));
        else expect(['truncated', 'bad_length']).toContain(verdict);
      }
      // Shorter than the virtio header itself.
      for (let length = 0; length <= vnetHeaderBytes; length++)
        expect(pond.send(new Uint8Array(0), new Uint8Array(length)).verdict).toBe('truncated');
    },
  );
});

describe('a packet is dropped for', () => {
  const { tcp: syn, udp: datagram, icmp } = valid as Record<'tcp' | 'udp' | 'icmp', PacketFields>;
  test.each<[string, Uint8Array, string]>([
    ['version 0', changed(syn, (b) => (b[0] = 0x05)), 'bad_version'],
    ['version 5', changed(syn, (b) => (b[0] = 0x55)), 'bad_version'],
    ['version 6', changed(syn, (b) => (b[0] = 0x65)), 'truncated'],
    ['one byte of version 6', Uint8Array.of(0x60), 'truncated'],
    ['a header of 16 bytes', changed(syn, (b) => (b[0] = 0x44)), 'bad_length'],
    ['no header at all', changed(syn, (b) => (b[0] = 0x40)), 'bad_length'],
    ['a header longer than the packet', changed(icmp, (b) => (b[0] = 0x4f)), 'bad_length'],
    ['a total length below the header', changed(syn, (b) => setWord(b, 2, 19)), 'bad_length'],
    ['a total length of 0', changed(syn, (b) => setWord(b, 2, 0)), 'bad_length'],
    ['a total length beyond the end', changed(syn, (b) => setWord(b, 2, b.length + 1)), 'truncated'],
    [
      'a header checksum off by one',
      Uint8Array.from(build(syn), (byte, i) => (i === 11 ? byte ^ 1 : byte)),
      'bad_header_checksum',
    ],
    [
      'a damaged address',
      Uint8Array.from(build(syn), (byte, i) => (i === 19 ? byte ^ 1 : byte)),
      'bad_header_checksum',
    ],
    [
      'more fragments behind a length that is no multiple of eight',
      build({ ...datagram, fragment: 0x2000 }),
      'fragment_bad_length',
    ],
    [
      'a fragment of nothing',
      changed({ ...datagram, fragment: 0x2001 }, (b) => setWord(b, 2, 20)),
      'fragment_bad_length',
    ],
    ['a fragment that ends beyond 65,535 bytes', build({ ...datagram, fragment: 0x1fff }), 'fragment_bad_length'],
    ['a first fragment without all of the TCP header', fragmentOf(build(syn), 0, 16), 'fragment_too_small'],
    ['a first fragment without all of the TCP options', fragmentOf(build(syn), 0, 24), 'fragment_too_small'],
    [
      'a fragment of protocol 47',
      changed({ ...datagram, fragment: 0x0001 }, (b) => (b[9] = 47)),
      'protocol_unsupported',
    ],
    ['protocol 47', changed(syn, (b) => (b[9] = 47)), 'protocol_unsupported'],
    ['protocol 58', changed(icmp, (b) => (b[9] = 58)), 'protocol_unsupported'],
    ['a TCP header of 16 bytes', changed(syn, (b) => (b[32] = 0x40)), 'bad_length'],
    ['a TCP header beyond the end', changed(syn, (b) => (b[32] = 0xf0)), 'bad_length'],
    ['no TCP flags', build(tcp(client, origin, '')), 'bad_tcp_flags'],
    ['FIN alone', build(tcp(client, origin, 'F')), 'bad_tcp_flags'],
    ['SYN with FIN', build(tcp(client, origin, 'SF')), 'bad_tcp_flags'],
    ['SYN with RST', build(tcp(client, origin, 'SR')), 'bad_tcp_flags'],
    ['a source port of 0', build(tcp({ ...client, port: 0 }, origin, 'S')), 'port_zero'],
    ['a destination port of 0', build(udp(client, { ...origin, port: 0 })), 'port_zero'],
    ['FIN, PSH and URG alone', changed(syn, (b) => (b[33] = 0x29)), 'bad_tcp_flags'],
    ['an echo without sequence number', changed(icmp, (b) => setWord(b, 2, 27)), 'truncated'],
    ['ICMP that is neither echo nor error', changed(icmp, (b) => (b[20] = 13)), 'icmp_type_unsupported'],
    ['an ICMP error without anything quoted', changed(icmp, (b) => (b[20] = 3)), 'truncated'],
    ['an option of one byte', build({ ...datagram, options: [148, 1, 0, 0] }), 'bad_ip_option'],
    ['an option without a length', build({ ...datagram, options: [1, 1, 1, 148] }), 'bad_ip_option'],
    ['an option beyond the header', build({ ...datagram, options: [148, 5, 0, 0] }), 'bad_ip_option'],
    [
      'a record route that points into itself',
      build({ ...datagram, options: [7, 7, 3, 0, 0, 0, 0, 0] }),
      'bad_ip_option',
    ],
    ['a record route without a pointer', build({ ...datagram, options: [7, 2, 0, 0] }), 'bad_ip_option'],
    [
      'a timestamp that points into itself',
      build({ ...datagram, options: [68, 8, 4, 0, 0, 0, 0, 0] }),
      'bad_ip_option',
    ],
    ['a timestamp without flags', build({ ...datagram, options: [68, 3, 5, 0] }), 'bad_ip_option'],
    ['a loose source route', build({ ...syn, options: [1, 131, 7, 4, 192, 0, 2, 1] }), 'source_route'],
    ['a strict source route', build({ ...datagram, options: [137, 7, 4, 192, 0, 2, 1, 0] }), 'source_route'],
    [
      'a source route in a later fragment',
      build({ ...datagram, fragment: 1, options: [131, 7, 4, 192, 0, 2, 1, 0] }),
      'source_route',
    ],
    ['a UDP length below 8', changed(datagram, (b) => setWord(b, 24, 7)), 'bad_length'],
    ['a UDP length beyond the end', changed(datagram, (b) => setWord(b, 24, 12)), 'bad_length'],
  ])('%s', (_what, bytes, verdict) => {
    const pond = new Pond(blocks);
    const sent = pond.send(bytes);
    expect(sent.verdict).toBe(verdict);
    expect(hexOf(sent.bytes)).toBe(hexOf(bytes));
    expect(pond.drops()).toEqual({ [verdict]: 1 });
    expect(pond.forwarder.counters().flowsOpened).toBe(0);
  });

  test.each([
    ['record route', [7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]],
    ['record route that is full', [7, 7, 8, 192, 0, 2, 1, 0]],
    ['timestamp', [68, 12, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0]],
    ['router alert', [148, 4, 0, 0]],
    ['security', [130, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]],
    ['one that nobody knows', [222, 3, 7, 0]],
    ['whatever is behind the end of the list', [0, 131, 7, 4]],
  ])('%s is no reason, and passes as it is', (_name, options) => {
    const pond = new Pond(blocks);
    const sent = pond.send(udp(client, origin, { options }));
    expect(sent.verdict).toBe('forward');
    expect([...sent.bytes.subarray(20, 20 + options.length)]).toEqual(options);
    expect(checksumProblem(sent.bytes)).toBeUndefined();
  });

  test('the don’t-fragment and the reserved bit are no reason', () => {
    for (const fragment of [0x4000, 0x8000, 0xc000])
      expect(new Pond(blocks).send(build({ ...syn, fragment })).verdict).toBe('forward');
  });

  test('UDP options behind the datagram (RFC 9868) are no reason', () => {
    const bytes = build(udp(client, origin, { data: Uint8Array.of(1, 2, 3, 4) }));
    setWord(bytes, 24, 10);
    expect(new Pond(blocks).send(bytes).verdict).toBe('forward');
  });

  test('a length beyond the buffer is no packet', () => {
    const { forwarder } = new Pond(blocks);
    expect(forwarder.handle(new Uint8Array(100), 101, 0)).toBe(1);
  });
});

const names = ['forward', 'held', ...dropReasons];

test('a packet from outside is dropped for a source that nobody can have', () => {
  const pond = new Pond(blocks);
  const { bytes } = pond.send(udp(client, origin));
  const to = read(bytes);
  const leased = { address: to.source, port: to.sourcePort };
  for (const from of ['127.0.0.1', '0.0.0.0', '224.0.0.1', '255.255.255.255', '169.254.1.1', '240.0.0.1']) {
    expect(pond.send(udp({ address: from, port: 53 }, leased)).verdict).toBe('bad_source');
    const error = {
      protocol: 'icmp',
      type: 3,
      identifier: 0,
      data: bytes,
      source: from,
      destination: leased.address,
    } as const;
    expect(pond.send(error).verdict).toBe('bad_source');
  }
  expect(pond.send(udp({ address: '192.0.2.200', port: 53 }, leased)).verdict).toBe('forward');
});

describe('whatever comes', () => {
  const bytes = fc.uint8Array({ maxLength: 120 });
  const headed = fc.tuple(
    fc.constantFrom(...Object.values(valid)),
    fc.array(fc.tuple(fc.nat(), fc.nat({ max: 255 })), { maxLength: 6 }),
    fc.boolean(),
  );

  test.prop([fc.array(bytes, { maxLength: 20 }), fc.constantFrom(0 as const, 10 as const)])(
    'random bytes get a verdict',
    (packets, vnetHeaderBytes) => {
      const pond = new Pond(blocks, { vnetHeaderBytes });
      for (const each of packets) expect(names).toContain(pond.send(each).verdict);
    },
  );

  test.prop([fc.array(headed, { minLength: 1, maxLength: 20 })], { numRuns: 500 })(
    'a packet with random changes is either left alone or translated without its checksum being mended',
    (packets) => {
      const pond = new Pond(blocks);
      for (const [packet, edits, mended] of packets) {
        const edit = (target: Uint8Array) => edits.forEach(([at, value]) => (target[at % target.length] = value));
        const before = build(packet);
        if (mended) before.set(changed(packet, edit));
        else edit(before);
        const { verdict, bytes: after } = pond.send(before);
        expect(names).toContain(verdict);
        if (verdict !== 'forward') expect(hexOf(after)).toBe(hexOf(before));
        else expect(checksumProblem(after)).toBe(checksumProblem(before));
      }
    },
  );
});
