import { describe, expect, test } from 'vitest';
import type { Address } from '../../../src/net/address.ts';
import { block, client, client6, inside, outside, Pond } from '../../support/fish.ts';
import { read, udp, type Endpoint } from '../../support/packets.ts';

const [leased, leased6] = ['198.51.100.10', '2001:db8:d::10'];
const blocks = [block(leased, 'udp', 9_008, 9_023), block(leased6, 'udp', 9_008, 9_023)];
const strict = {
  udpFiltering: 'address_dependent',
  udpPeersMax: 100,
  icmpSource: '100.96.0.1' as Address,
  icmpErrorsPerSMax: 1_000,
} as const;
const others: readonly Endpoint[] = [3, 4, 5].map((host) => ({ address: `100.96.0.${host}`, port: 40_000 }));
const peer = (number: number): Endpoint => ({ address: `203.0.${number >> 8}.${number & 255}`, port: 53 });
const peer6 = (number: number): Endpoint => ({ address: `2001:db8:1:${(number + 1).toString(16)}::1`, port: 53 });
/** To how many of so many peers it may send. */
const peersOf = (pond: Pond, from: Endpoint, count: number, peers = peer): number => {
  let had = 0;
  for (let number = 1; number <= count; number++) if (pond.send(udp(from, peers(number))).verdict === 'forward') had++;
  return had;
};

describe('of the peers that are remembered', () => {
  test('a client that is alone has nine in ten, and who comes next gets some of the others', () => {
    const pond = new Pond(blocks, strict);
    expect(peersOf(pond, client, 200)).toBe(90);
    expect(peersOf(pond, others[0]!, 200)).toBe(9);
    expect(peersOf(pond, others[1]!, 200)).toBe(1);
    expect(pond.drops()).toEqual({ peer_share: 110 + 191, peers_full: 199 });
    // Whom it has sent to it sends to and hears from, as before.
    expect(pond.send(udp(client, peer(90))).verdict).toBe('forward');
    expect(inside(pond.send(udp(peer(90), outside(pond.send(udp(client, peer(1)))))))).toEqual(client);
  });

  test('all flows of a client have one share together, and what ends makes room', () => {
    const pond = new Pond(blocks, { ...strict, timers: { udpRestS: 0 } });
    const second = { ...client, port: 50_000 };
    expect([peersOf(pond, client, 60), peersOf(pond, second, 60)]).toEqual([60, 30]);
    pond.pass(200);
    pond.send(udp(second, peer(1)));
    pond.pass(101);
    expect(pond.forwarder.counters().flowsLive).toBe(1);
    expect(peersOf(pond, second, 200)).toBe(90);
  });

  test('a successor counts whose they are', () => {
    const pond = new Pond(blocks, strict);
    expect(peersOf(pond, client, 50)).toBe(50);
    pond.restart();
    expect(peersOf(pond, client, 200)).toBe(90);
    expect(peersOf(pond, others[0]!, 200)).toBe(9);
  });

  test('over IPv6 each may take an address, and the addresses are shared as well', () => {
    const pond = new Pond(blocks, { ...strict, udpPeersMax: 1_000, ipv6AddressesMax: 100 });
    const had = peersOf(pond, client6, 300, peer6);
    expect(had).toBeGreaterThan(80);
    expect(had).toBeLessThan(90);
    expect(Object.keys(pond.drops())).toEqual(['peer_share']);
    const other = { ...client6, address: '2001:db8:c:7::3' };
    expect(peersOf(pond, other, 3, (number) => peer6(number + 1_000))).toBe(3);
  });
});

describe('whose peer cannot be remembered', () => {
  test.each([
    ['because it has its share', client, [client], 'peer_share'],
    ['because nobody has room', others[2]!, [client, ...others.slice(0, 2)], 'peers_full'],
  ])('%s, hears of it at once, and nothing of a flow is left', (_why, from, greedy, verdict) => {
    const pond = new Pond(blocks, strict);
    for (const each of greedy) peersOf(pond, each, 200);
    const before = pond.forwarder.counters();
    const socket = { ...from, port: 45_000 };
    expect(pond.send(udp(socket, peer(400))).verdict).toBe(verdict);
    expect(read(pond.reply()!)).toMatchObject({ protocol: 1, destination: from.address });
    const after = pond.forwarder.counters();
    expect([after.flowsLive, after.flowsResting, after.flowsOpened]).toEqual([
      before.flowsLive,
      before.flowsResting,
      before.flowsOpened,
    ]);
    expect(after.blocks.map(({ flows }) => flows)).toEqual(before.blocks.map(({ flows }) => flows));
    // Its flow to whom it knows already goes on, when another peer is refused.
    expect(pond.send(udp(client, peer(500))).verdict).not.toBe('forward');
    expect(pond.send(udp(client, peer(1))).verdict).toBe('forward');
  });
});
