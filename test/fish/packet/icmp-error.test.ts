import { describe, expect, test } from 'vitest';
import { cut } from '../../support/cut-packets.ts';
import { block, client, client6, origin, origin6, Pond } from '../../support/fish.ts';
import { build, checksumProblem, udp, type PacketFields } from '../../support/packets.ts';

const leased = '198.51.100.10';
const router = '192.0.2.254';
const nearRouter = '100.64.0.1';
/** Between the clients and fish, with an address that is none of a client's. */
const farRouter = '10.0.0.1';
const blocks = [
  block(leased, 'tcp', 9_000, 9_000),
  block(leased, 'udp', 9_000, 9_000),
  block(leased, 'icmp', 9_000, 9_000),
];

const data = Uint8Array.from({ length: 64 }, (_, index) => index * 7);
const ends = {
  source: client.address,
  destination: origin.address,
  sourcePort: client.port,
  destinationPort: origin.port,
};
const back = { source: origin.address, destination: leased, sourcePort: origin.port, destinationPort: 9_000 };

/** With data that the checksum comes to zero by, which is written as all ones (RFC 768). */
function summingToZero(fields: PacketFields): PacketFields {
  const bytes = build({ ...fields, data: new Uint8Array(2) });
  return { ...fields, data: bytes.slice(26, 28) };
}

/** What a client sends first, and what it is sent; ports and identifier are those of the only port that is leased. */
const kinds: Readonly<Record<string, Readonly<{ sent: PacketFields; arriving: PacketFields }>>> = {
  tcp: {
    sent: { ...ends, protocol: 'tcp', flags: 'S', sequence: 1_000, data },
    arriving: { ...back, protocol: 'tcp', flags: 'SA', sequence: 5, acknowledgement: 1_001, data },
  },
  'tcp with IP options': {
    sent: { ...ends, protocol: 'tcp', flags: 'S', options: [1, 1, 1, 1, 1, 1, 1, 0] },
    arriving: { ...back, protocol: 'tcp', flags: 'SA', options: [1, 1, 1, 0] },
  },
  udp: { sent: { ...ends, protocol: 'udp', data }, arriving: { ...back, protocol: 'udp', data } },
  'udp without a checksum': {
    sent: { ...ends, protocol: 'udp', withoutChecksum: true, data },
    arriving: { ...back, protocol: 'udp', withoutChecksum: true, data },
  },
  'udp whose checksum comes to zero': {
    sent: summingToZero({ ...ends, protocol: 'udp' }),
    arriving: summingToZero({ ...back, protocol: 'udp' }),
  },
  echo: {
    sent: { source: client.address, destination: origin.address, protocol: 'icmp', type: 8, identifier: 77, data },
    arriving: { source: origin.address, destination: leased, protocol: 'icmp', type: 0, identifier: 9_000, data },
  },
};

/** "Fragmentation needed", with the size of what would fit where an echo has its sequence number. */
function errorAbout(quoted: Uint8Array, source: string, destination: string, more: object = {}): PacketFields {
  const needed = { protocol: 'icmp', type: 3, code: 4, identifier: 0, sequence: 1_280 } as const;
  return { ...needed, source, destination, data: quoted, ...more };
}
/** As much as RFC 792 asks for, and as much as there is. */
const parts = (packet: Uint8Array): readonly Uint8Array[] => [packet.slice(0, ((packet[0] ?? 0) & 15) * 4 + 8), packet];

describe.each(Object.entries(kinds))('an error about %s', (_name, { sent, arriving }) => {
  test('that a client has sent comes to the client, and quotes what the client sent', () => {
    const pond = new Pond(blocks);
    const { bytes: out } = pond.send(sent);
    const inside = parts(build({ ...sent, ttl: 64 }));
    for (const [index, quoted] of parts(out).entries()) {
      const { verdict, bytes } = pond.send(errorAbout(quoted, router, leased));
      expect(verdict).toBe('forward');
      expect(bytes).toEqual(build(errorAbout(inside[index]!, router, client.address, { ttl: 64 })));
      expect(checksumProblem(bytes)).toBeUndefined();
    }
  });

  test('that a client was sent goes out from the leased address, and quotes what arrived there', () => {
    const pond = new Pond(blocks);
    pond.send(sent);
    const { bytes: inner, verdict: arrived } = pond.send(arriving);
    expect(arrived).toBe('forward');
    const outside = parts(build({ ...arriving, ttl: 64 }));
    for (const from of [client.address, nearRouter, farRouter])
      for (const [index, quoted] of parts(inner).entries()) {
        const { verdict, bytes } = pond.send(errorAbout(quoted, from, origin.address));
        expect(verdict).toBe('forward');
        expect(bytes).toEqual(build(errorAbout(outside[index]!, leased, origin.address, { ttl: 64 })));
      }
  });

  test('damaged on its way is as damaged afterwards', () => {
    const pond = new Pond(blocks);
    const { bytes: out } = pond.send(sent);
    const damaged = build(errorAbout(out, router, leased));
    damaged[damaged.length - 1]! ^= 0x10;
    const { bytes } = pond.send(damaged);
    expect(checksumProblem(bytes)).toBeDefined();
  });
});

test("an error quotes the identification that fish gave a packet which may be cut; without cutting, the client's", () => {
  for (const [fragment, isClients] of [
    [0, false],
    [0x4000, true],
  ] as const) {
    const pond = new Pond(blocks);
    const { bytes: out } = pond.send({ ...kinds['udp']!.sent, fragment, identification: 1_111 });
    const { verdict, bytes } = pond.send(errorAbout(out, router, leased));
    expect(verdict).toBe('forward');
    const identification = new DataView(bytes.buffer, bytes.byteOffset).getUint16(20 + 8 + 4);
    expect(identification === 1_111).toBe(isClients);
  }
});

test.each(['from outside', 'from inside'])(
  'an error %s whose checksum comes to be 0 has all ones instead, as all ICMP',
  (where) => {
    const { sent, arriving } = kinds['udp']!;
    const pond = new Pond(blocks);
    const out = pond.send(sent).bytes;
    const got = pond.send(arriving).bytes;
    /** What is behind the type counts in the sum, and means nothing to fish. */
    const [before, after] =
      where === 'from outside'
        ? [
            (identifier: number) => errorAbout(out, router, leased, { identifier }),
            (identifier: number) =>
              build(errorAbout(build({ ...sent, ttl: 64 }), router, client.address, { identifier, ttl: 64 })),
          ]
        : [
            (identifier: number) => errorAbout(got, nearRouter, origin.address, { identifier }),
            (identifier: number) =>
              build(errorAbout(build({ ...arriving, ttl: 64 }), leased, origin.address, { identifier, ttl: 64 })),
          ];
    const checksumOf = (error: Uint8Array) => ((error[22] ?? 0) << 8) | (error[23] ?? 0);
    const missing = checksumOf(after(0));
    expect(checksumOf(after(missing))).toBe(0xffff);
    const { verdict, bytes } = pond.send(before(missing));
    expect([verdict, bytes]).toEqual(['forward', after(missing)]);
  },
);

describe('an error is dropped', () => {
  const sent = kinds['udp']!.sent;
  const begin = () => {
    const pond = new Pond(blocks);
    return { pond, out: pond.send(sent).bytes };
  };

  test.each([4, 5])('that means nothing beyond a router: type %i', (type) => {
    const { pond, out } = begin();
    expect(pond.send(errorAbout(out, router, leased, { type })).verdict).toBe('icmp_error_unusable');
    expect(pond.send(errorAbout(out, client.address, router, { type })).verdict).toBe('icmp_error_unusable');
  });

  test('about nothing that a client has sent', () => {
    const { pond } = begin();
    const stranger = build({
      ...back,
      source: leased,
      destination: origin.address,
      protocol: 'udp',
      sourcePort: 9_001,
    });
    expect(pond.send(errorAbout(stranger, router, leased)).verdict).toBe('no_flow');
    // What it quotes was sent by another address than the one that it comes to.
    expect(pond.send(errorAbout(build(sent), router, leased)).verdict).toBe('no_flow');
    const reply = build({ source: leased, destination: origin.address, protocol: 'icmp', type: 0, identifier: 9_000 });
    expect(pond.send(errorAbout(reply, router, leased)).verdict).toBe('no_flow');
  });

  test('that quotes another error, a later fragment, another protocol, or too little', () => {
    const { pond, out } = begin();
    const about = (quoted: Uint8Array) => pond.send(errorAbout(quoted, router, leased)).verdict;
    const changed = (at: number, to: number) => Uint8Array.from(out, (byte, index) => (index === at ? to : byte));
    expect(about(build(errorAbout(out, leased, router)))).toBe('icmp_error_unusable');
    expect(about(changed(7, 3))).toBe('icmp_error_unusable');
    expect(about(changed(9, 47))).toBe('icmp_error_unusable');
    expect(about(changed(0, 0x65))).toBe('icmp_error_unusable');
    expect(about(changed(0, 0x44))).toBe('icmp_error_unusable');
    for (const bytes of [0, 19, 20, 27]) expect(about(out.slice(0, bytes))).toBe('truncated');
  });

  test('that quotes a later fragment of IPv6, whose data may look like ports', () => {
    const leased6 = '2001:db8:d::10';
    const pond = new Pond([block(leased6, 'udp', 9_000, 9_000)]);
    const ports = [9_000 >> 8, 9_000 & 255, origin6.port >> 8, origin6.port & 255];
    // Each piece but the first begins with the ports of the flow.
    const data = Uint8Array.from([...new Uint8Array(56), ...ports, 0, 8, 0, 0, ...new Uint8Array(8)]);
    expect(pond.send(udp(client6, origin6, { data })).verdict).toBe('forward');
    const [first, later] = cut(build(udp({ address: leased6, port: 9_000 }, origin6, { data })), 64) as [
      Uint8Array,
      Uint8Array,
    ];
    const about = (quoted: Uint8Array) =>
      pond.send({
        ...{ protocol: 'icmp', type: 2, code: 0, identifier: 0, sequence: 1_280 },
        ...{ source: '2001:db8:e::1', destination: leased6, data: quoted },
      }).verdict;
    expect([about(first), about(later)]).toEqual(['forward', 'icmp_error_unusable']);
  });

  test.each([
    ['a reply that a client has sent', { type: 0, identifier: 9_000 }],
    ['a request that a client was sent', { type: 8, identifier: 77 }],
  ])('that quotes %s, which no client can have', (what, echoed) => {
    const { sent: request, arriving } = kinds['echo']!;
    const pond = new Pond(blocks);
    pond.send(request);
    pond.send(arriving);
    const isSent = what.includes('has sent');
    const [from, to] = isSent ? [leased, origin.address] : [origin.address, client.address];
    const quoted = build({ protocol: 'icmp', source: from, destination: to, ...echoed });
    const error = isSent ? errorAbout(quoted, router, leased) : errorAbout(quoted, nearRouter, origin.address);
    expect(pond.send(error).verdict).toBe('no_flow');
  });

  test('from those who may not send', () => {
    const { pond, out } = begin();
    const inner = pond.send(kinds['udp']!.arriving).bytes;
    expect(pond.send(errorAbout(inner, '127.0.0.1', origin.address)).verdict).toBe('source_not_allowed');
    // About what a client was sent, but on its way to somebody else.
    expect(pond.send(errorAbout(inner, farRouter, '203.0.113.66')).verdict).toBe('no_flow');
    expect(pond.send(errorAbout(inner, leased, origin.address)).verdict).toBe('spoofed_source');
    expect(pond.send(errorAbout(out, client.address, leased)).verdict).toBe('no_flow');
  });

  test('once the flow has ended, and never keeps it alive', () => {
    const { pond, out } = begin();
    for (let at = 0; at < 300; at += 60) {
      expect(pond.send(errorAbout(out, router, leased)).verdict).toBe('forward');
      pond.pass(60);
    }
    // The wheel of timers is not finer than this.
    pond.pass(5);
    expect(pond.send(errorAbout(out, router, leased)).verdict).toBe('resting');
    pond.pass(125);
    expect(pond.send(errorAbout(out, router, leased)).verdict).toBe('no_flow');
  });

  test('from a remote that the client never sent to, where only such may answer', () => {
    const pond = new Pond(blocks, { udpFiltering: 'address_dependent' });
    const { bytes: out } = pond.send(sent);
    expect(pond.send(errorAbout(out, router, leased)).verdict).toBe('forward');
    const other = build({ ...back, source: leased, destination: '203.0.113.99', sourcePort: 9_000, protocol: 'udp' });
    expect(pond.send(errorAbout(other, router, leased)).verdict).toBe('filtered');
  });
});
