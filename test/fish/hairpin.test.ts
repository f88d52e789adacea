import { describe, expect, test } from 'vitest';
import { block, client, client6, origin, origin6, Pond } from '../support/fish.ts';
import { translated } from '../support/naive-nat.ts';
import { cut, joined } from '../support/cut-packets.ts';
import { build, checksumProblem, echo, hexOf, read, tcp, udp, type Endpoint } from '../support/packets.ts';

/*
 * Clients behind one fish that reach each other by their leased addresses and ports (RFC 4787 REQ-9, RFC 5382 REQ-8): each sees
 * the other as somebody outside would.
 */
const families = [
  { family: 4, address: '198.51.100.10', a: client, b: { address: '100.96.0.3', port: 5_000 }, outside: origin },
  { family: 6, address: '2001:db8:d::10', a: client6, b: { address: '2001:db8:c::3', port: 5_000 }, outside: origin6 },
] as const;

describe.each(families)('over IPv$family', ({ address, a, b, outside }) => {
  const blocks = (['tcp', 'udp', 'icmp'] as const).map((protocol) => block(address, protocol, 9_000, 9_007));
  const sourceOf = ({ verdict, bytes }: { verdict: string; bytes: Uint8Array }): Endpoint => {
    expect(verdict).toBe('forward');
    const { source, sourcePort } = read(bytes);
    return { address: source, port: sourcePort };
  };

  test('a datagram comes from the leased port of who sent it, and so does the answer', () => {
    const pond = new Pond(blocks);
    const [leasedA, leasedB] = [sourceOf(pond.send(udp(a, outside))), sourceOf(pond.send(udp(b, outside)))];
    for (const [from, to, source, destination] of [
      [a, leasedB, leasedA, b],
      [b, leasedA, leasedB, a],
    ] as const) {
      const sent = build(udp(from, to, { ttl: 9, service: 0xb9, data: Uint8Array.of(1, 2, 3) }));
      const { verdict, bytes } = pond.send(sent);
      expect(verdict).toBe('forward');
      // Twice translated, and one hop given back, not two.
      const expected = translated(translated(sent, 'source', source), 'destination', destination);
      expect(read(bytes)).toMatchObject({ ttl: 10, source: source.address, sourcePort: source.port });
      const hopAt = address.includes(':') ? 7 : 8;
      expect(read(expected).ttl).toBe(11);
      expect(hexOf(bytes.slice(hopAt + 4))).toBe(hexOf(expected.slice(hopAt + 4)));
      expect(checksumProblem(bytes)).toBeUndefined();
    }
    expect(pond.drops()).toEqual({});
    expect([...pond.forwarder.flows()]).toHaveLength(2);
  });

  test('a client reaches itself by its own leased port', () => {
    const pond = new Pond(blocks);
    const leased = sourceOf(pond.send(udp(a, outside)));
    const { verdict, bytes } = pond.send(udp(a, leased));
    expect(verdict).toBe('forward');
    expect(read(bytes)).toMatchObject({
      source: leased.address,
      sourcePort: leased.port,
      destination: a.address,
      destinationPort: a.port,
    });
  });

  test('who lets in only whom he has sent to, lets in no other client either', () => {
    const pond = new Pond(blocks, { udpFiltering: 'address_and_port_dependent' });
    const [leasedA, leasedB] = [sourceOf(pond.send(udp(a, outside))), sourceOf(pond.send(udp(b, outside)))];
    expect(pond.send(udp(a, leasedB)).verdict).toBe('filtered');
    // What was not let in has gone out: the other one's answer is awaited now, and brings both together.
    expect(pond.send(udp(b, leasedA)).verdict).toBe('forward');
    expect(pond.send(udp(a, leasedB)).verdict).toBe('forward');
  });

  test('two clients connect to each other at the same time', () => {
    // Each must know which port the other will have: there are two, and nobody gets the one that he connects to.
    const pond = new Pond([block(address, 'tcp', 9_000, 9_001)]);
    const [leasedA, leasedB] = [
      { address, port: 9_000 },
      { address, port: 9_001 },
    ];
    expect(pond.send(tcp(a, leasedB, 'S', { sequence: 100 })).verdict).toBe('no_flow');
    const toA = pond.send(tcp(b, leasedA, 'S', { sequence: 500 }));
    expect(sourceOf(toA)).toEqual(leasedB);
    expect(read(toA.bytes)).toMatchObject({ destination: a.address, destinationPort: a.port });
    for (const [from, to, sequence, acknowledgement] of [
      [a, leasedB, 100, 501],
      [b, leasedA, 500, 101],
    ] as const)
      expect(pond.send(tcp(from, to, 'SA', { sequence, acknowledgement })).verdict).toBe('forward');
    const data = Uint8Array.from({ length: 100 }, (_, i) => i);
    const sent = pond.send(tcp(a, leasedB, 'A', { sequence: 101, acknowledgement: 501, data }));
    expect(sourceOf(sent)).toEqual(leasedA);
    expect(checksumProblem(sent.bytes)).toBeUndefined();
    // Both flows see the end of it, whichever side they are on.
    const end = (from: Endpoint, to: Endpoint, flags: string, sequence: number, acknowledgement: number) =>
      expect(pond.send(tcp(from, to, flags, { sequence, acknowledgement })).verdict).toBe('forward');
    end(a, leasedB, 'FA', 201, 501);
    end(b, leasedA, 'FA', 501, 202);
    end(a, leasedB, 'A', 202, 502);
    expect([...pond.forwarder.flows()].map(({ state }) => state)).toEqual(['resting', 'resting']);
    expect(pond.forwarder.counters()).toMatchObject({ tcpStrays: 0, flowsEnded: { finished: 2 } });
    // The last one again, for who has not heard it.
    end(a, leasedB, 'A', 202, 502);
    expect(pond.send(tcp(b, leasedA, 'S')).verdict).not.toBe('forward');
  });

  test('an error about what one has sent another finds the first, and quotes what that one sent', () => {
    const pond = new Pond(blocks);
    sourceOf(pond.send(udp(a, outside)));
    const leasedB = sourceOf(pond.send(udp(b, outside)));
    const first = build(udp(a, leasedB, { data: Uint8Array.from({ length: 64 }, (_, i) => i * 3) }));
    const arrived = pond.send(first);
    const leasedA = sourceOf(arrived);
    const isIPv6 = address.includes(':');
    const unreachable = {
      protocol: 'icmp',
      type: isIPv6 ? 1 : 3,
      code: isIPv6 ? 4 : 3,
      identifier: 0,
      sequence: 0,
    } as const;
    const error = pond.send({ ...unreachable, source: b.address, destination: leasedA.address, data: arrived.bytes });
    expect(error.verdict).toBe('forward');
    expect(read(error.bytes)).toMatchObject({ source: leasedB.address, destination: a.address });
    expect(checksumProblem(error.bytes)).toBeUndefined();
    const quoted = error.bytes.slice((isIPv6 ? 40 : 20) + 8);
    expect(read(quoted)).toEqual({ ...read(first), ttl: 64 });
    expect(checksumProblem(quoted)).toBeUndefined();
    // About what nobody has sent, and from who was not sent it.
    expect(
      pond.send({ ...unreachable, source: a.address, destination: leasedA.address, data: arrived.bytes }).verdict,
    ).toBe('forward');
    const stranger = build(udp({ ...leasedA, port: 9_006 }, b));
    expect(pond.send({ ...unreachable, source: b.address, destination: leasedA.address, data: stranger }).verdict).toBe(
      'no_flow',
    );
  });

  test('whom nobody behind this fish can be is told apart from who is not there', () => {
    const pond = new Pond(blocks);
    const flows = () => pond.forwarder.counters().flowsOpened;
    expect(pond.send(udp(a, { address, port: 22 })).verdict).toBe('hairpin_nowhere');
    expect(pond.send(tcp(a, { address, port: 22 }, 'S')).verdict).toBe('hairpin_nowhere');
    // An echo has no port by which it could be for a client.
    expect(pond.send(echo(a.address, address, 7)).verdict).toBe('hairpin_nowhere');
    expect(flows()).toBe(0);
    expect(pond.send(udp(a, { address, port: 9_000 })).verdict).toMatch(/no_flow|forward/);
    expect(flows()).toBe(1);
    expect(pond.send(udp({ address, port: 9_001 }, { address, port: 9_000 })).verdict).toBe('spoofed_source');
  });

  test('without a port of its own nobody reaches anybody, and hears of it', () => {
    const [own, icmp] = address.includes(':') ? ['fd00::1', 'icmpSource6'] : ['192.0.2.1', 'icmpSource'];
    const pond = new Pond([block(address, 'udp', 9_000, 9_000)], { [icmp]: own });
    const leased = sourceOf(pond.send(udp(b, outside)));
    expect(pond.send(udp(a, leased)).verdict).toBe('no_port');
    expect(read(pond.reply()!)).toMatchObject({ source: own, destination: a.address });
  });
});

test('fragments go around as well, in any order', () => {
  const pond = new Pond([block('198.51.100.10', 'udp', 9_000, 9_007)]);
  const other = { address: '100.96.0.3', port: 5_000 };
  for (const each of [client, other]) pond.send(udp(each, origin));
  const [leasedB, leasedA] = [...pond.forwarder.flows()].map(({ client: whose, address, port }) => ({
    whose,
    address,
    port,
  }));
  const to = leasedA!.whose === other.address ? leasedA! : leasedB!;
  const whole = build(udp(client, to, { fragment: 0, data: Uint8Array.from({ length: 3_000 }, (_, i) => i & 255) }));
  const left = cut(whole, 1_000)
    .toReversed()
    .flatMap((each) => {
      const { verdict, bytes } = pond.send(each);
      return verdict === 'held' ? [] : [bytes, ...pond.behind];
    });
  const arrived = joined(left)!;
  expect(read(arrived)).toMatchObject({ destination: other.address, destinationPort: other.port, ttl: 64 });
  expect(checksumProblem(arrived)).toBeUndefined();
});

describe('the hops that a packet has left', () => {
  test.each(families)('are one less for both ways through the kernel, over IPv$family', ({ address, a, outside }) => {
    const pond = new Pond([block(address, 'udp', 9_000, 9_000)]);
    for (const [before, after] of [
      [1, 2],
      [63, 64],
      [254, 255],
      [255, 255],
    ] as const) {
      const out = pond.send(udp(a, outside, { ttl: before }));
      expect([out.verdict, read(out.bytes).ttl, checksumProblem(out.bytes)]).toEqual(['forward', after, undefined]);
      const back = pond.send(udp(outside, { address, port: 9_000 }, { ttl: before }));
      expect([back.verdict, read(back.bytes).ttl, checksumProblem(back.bytes)]).toEqual(['forward', after, undefined]);
    }
  });

  test.each(families)(
    'are as they came where the steering program brings the reply, over IPv$family',
    ({ address, a, outside }) => {
      const blocks = [
        block(address, 'tcp', 9_000, 9_000, { mode: 'shared', binding: 'late' }),
        block(address, 'udp', 9_000, 9_000),
      ];
      const pond = new Pond(blocks, { placeholderRepliesSkipHop: true });
      const leased = { address, port: 9_000 };
      const hops = ({ bytes }: { bytes: Uint8Array }) => read(bytes).ttl;
      expect(hops(pond.send(tcp(a, outside, 'S', { sequence: 1, ttl: 9 })))).toBe(10);
      expect(hops(pond.send(tcp(outside, leased, 'SA', { acknowledgement: 2, ttl: 9 })))).toBe(9);
      // The program sees no fragment: the kernel puts them together first, and forwards them.
      const data = new Uint8Array(100);
      const segment = build(tcp(outside, leased, 'A', { acknowledgement: 2, ttl: 9, fragment: 0, data }));
      for (const piece of cut(segment, 64)) {
        const { verdict, bytes } = pond.send(piece);
        expect([verdict, bytes[address.includes(':') ? 7 : 8]]).toEqual(['forward', 10]);
      }
      // The table brings what has no placeholder, by way of forwarding.
      expect(hops(pond.send(udp(a, outside, { ttl: 9 })))).toBe(10);
      expect(hops(pond.send(udp(outside, leased, { ttl: 9 })))).toBe(10);
    },
  );

  test.each(families)(
    'are one less from client to client, too, where the steering program brings replies, over IPv$family',
    ({ address, a, b }) => {
      const blocks = [block(address, 'tcp', 9_000, 9_001, { mode: 'shared', binding: 'late' })];
      const pond = new Pond(blocks, { placeholderRepliesSkipHop: true });
      pond.send(tcp(a, { address, port: 9_001 }, 'S', { sequence: 100, ttl: 9 }));
      // Both have a placeholder, and no packet of theirs comes by the program.
      const toA = pond.send(tcp(b, { address, port: 9_000 }, 'S', { sequence: 500, ttl: 9 }));
      expect([toA.verdict, read(toA.bytes).ttl]).toEqual(['forward', 10]);
      const toB = pond.send(tcp(a, { address, port: 9_001 }, 'SA', { sequence: 100, acknowledgement: 501, ttl: 9 }));
      expect([toB.verdict, read(toB.bytes).ttl]).toEqual(['forward', 10]);
      expect(pond.forwarder.counters().placeholdersHeld).toBe(2);
    },
  );

  test.each(families)(
    'leave service, congestion marks and flow label alone, over IPv$family',
    ({ address, a, outside }) => {
      const pond = new Pond([block(address, 'udp', 9_000, 9_000)]);
      const isIPv6 = address.includes(':');
      for (const service of [0, 0xb8, 0xff, 1, 2, 3]) {
        const { bytes } = pond.send(udp(a, outside, { service, label: 0xfedcb, fragment: 0x4000 }));
        if (isIPv6) expect(hexOf(bytes.slice(0, 4))).toBe(`6${service.toString(16).padStart(2, '0')}fedcb`);
        else expect([bytes[1], bytes[6]! & 0x40]).toEqual([service, 0x40]);
      }
    },
  );
});
