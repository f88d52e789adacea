import { describe, expect, test } from 'vitest';
import { block, client, inside, origin, outside, Pond } from '../../support/fish.ts';
import { build, tcp, udp, type Endpoint, type PacketFields } from '../../support/packets.ts';

const address = '198.51.100.10';
const blocks = [block(address, 'udp', 9_000, 9_007), block(address, 'tcp', 9_000, 9_007)];
const other: Endpoint = { address: '100.96.0.3', port: 40_000 };
const peer: Endpoint = { address: '203.0.113.1', port: 53 };
const samePlace: Endpoint = { ...peer, port: 54 };
const elsewhere: Endpoint = { address: '203.0.113.2', port: 53 };

const errorAbout = (quoted: PacketFields, source: string, destination: string): PacketFields => ({
  ...{ protocol: 'icmp', type: 3, code: 1, identifier: 0 },
  ...{ source, destination, data: build(quoted) },
});

describe('a UDP mapping', () => {
  test.each([
    ['endpoint_independent', { ofSamePlace: true, ofElsewhere: true }],
    ['address_dependent', { ofSamePlace: true, ofElsewhere: false }],
    ['address_and_port_dependent', { ofSamePlace: false, ofElsewhere: false }],
  ] as const)('that is %s is reused toward just those remotes', (udpMapping, { ofSamePlace, ofElsewhere }) => {
    const pond = new Pond(blocks, { udpMapping });
    pond.send(udp(client, peer));
    pond.send(udp(client, samePlace));
    expect([...pond.forwarder.flows()]).toHaveLength(ofSamePlace ? 1 : 2);
    pond.send(udp(client, elsewhere));
    expect([...pond.forwarder.flows()]).toHaveLength((ofSamePlace ? 1 : 2) + (ofElsewhere ? 0 : 1));
    // However it is, what comes from where the client has sent to is the client's.
    for (const remote of [peer, samePlace, elsewhere])
      expect(inside(pond.send(udp(remote, outside(pond.send(udp(client, remote))))))).toEqual(client);
  });

  test('that depends on the remote lets clients share a leased port, each toward its own', () => {
    const pond = new Pond([block(address, 'udp', 9_000, 9_000)], { udpMapping: 'address_dependent' });
    expect(outside(pond.send(udp(client, peer)))).toEqual({ address, port: 9_000 });
    expect(outside(pond.send(udp(other, elsewhere)))).toEqual({ address, port: 9_000 });
    expect(inside(pond.send(udp(peer, { address, port: 9_000 })))).toEqual(client);
    expect(inside(pond.send(udp(elsewhere, { address, port: 9_000 })))).toEqual(other);
    expect(pond.send(udp(other, samePlace)).verdict).toBe('no_port');
    expect([...pond.forwarder.flows()].map(({ remote, remotePort }) => `${remote} ${remotePort}`).toSorted()).toEqual([
      '203.0.113.1 null',
      '203.0.113.2 null',
    ]);
  });

  test('never changes while it lasts, whatever else there is to do (RFC 4787 REQ-11)', () => {
    const pond = new Pond(blocks);
    const leased = outside(pond.send(udp(client, peer)));
    for (let port = 1; port < 50; port++) {
      pond.send(udp({ ...other, port }, elsewhere));
      expect(outside(pond.send(udp(client, port % 2 === 0 ? peer : elsewhere)))).toEqual(leased);
      expect(inside(pond.send(udp(samePlace, leased)))).toEqual(client);
    }
    expect(pond.drops()).toHaveProperty('no_port');
  });

  test('of an address is found by who asks who had it, with the remote and without', () => {
    const pond = new Pond(blocks, { udpMapping: 'address_dependent' });
    const leased = outside(pond.send(udp(client, peer)));
    const asked = { protocol: 'udp', address: address as never, port: leased.port, at: pond.at(0) } as const;
    const clients = (remote: string | null, remotePort: number | null) =>
      pond.forwarder.whoHad({ ...asked, remote: remote as never, remotePort }, 0, 10).matches.length;
    expect(clients(null, null)).toBe(1);
    expect(clients(peer.address, 54)).toBe(1);
    expect(clients(elsewhere.address, null)).toBe(0);
  });
});

describe('UDP filtering', () => {
  test.each([
    ['endpoint_independent', 'forward', 'forward'],
    ['address_dependent', 'forward', 'filtered'],
    ['address_and_port_dependent', 'filtered', 'filtered'],
  ] as const)('that is %s lets in just those', (udpFiltering, fromSamePlace, fromElsewhere) => {
    const pond = new Pond(blocks, { udpFiltering });
    const leased = outside(pond.send(udp(client, peer)));
    expect(pond.send(udp(peer, leased)).verdict).toBe('forward');
    expect(pond.send(udp(samePlace, leased)).verdict).toBe(fromSamePlace);
    expect(pond.send(udp(elsewhere, leased)).verdict).toBe(fromElsewhere);
    // Errors go the same way: they are about what the client has sent, or somebody made them up.
    expect(pond.send(errorAbout(udp(leased, samePlace), elsewhere.address, address)).verdict).toBe(fromSamePlace);
    for (const remote of [samePlace, elsewhere]) {
      expect(outside(pond.send(udp(client, remote)))).toEqual(leased);
      expect(pond.send(udp(remote, leased)).verdict).toBe('forward');
    }
  });

  test('stricter than the mapping remembers ports, and takes them over from a former process', () => {
    const settings = { udpMapping: 'address_dependent', udpFiltering: 'address_and_port_dependent' } as const;
    const pond = new Pond(blocks, settings);
    const leased = outside(pond.send(udp(client, peer)));
    pond.restart();
    expect(pond.send(udp(peer, leased)).verdict).toBe('forward');
    expect(pond.send(udp(samePlace, leased)).verdict).toBe('filtered');
    expect(pond.send(udp(elsewhere, leased)).verdict).toBe('no_flow');
  });
});

describe('a mapping of another kind than the settings have by now', () => {
  test('is not taken over from a former process', () => {
    const pond = new Pond(blocks);
    pond.send(udp(client, peer));
    pond.send(tcp(client, origin, 'S'));
    pond.restart({ udpMapping: 'address_dependent' });
    expect([...pond.forwarder.flows()].map(({ protocol }) => protocol)).toEqual(['tcp']);
    expect(pond.forwarder.counters().adoption).toMatchObject({ flows: 1, not_allowed: 1 });
  });
});

describe('what comes in', () => {
  test.each([
    [false, 'resting'],
    [true, 'forward'],
  ] as const)('with udpInboundRefresh %s (RFC 4787 REQ-6)', (udpInboundRefresh, afterwards) => {
    const pond = new Pond(blocks, { udpInboundRefresh });
    const leased = outside(pond.send(udp(client, peer)));
    pond.pass(200);
    expect(inside(pond.send(udp(peer, leased)))).toEqual(client);
    pond.pass(200);
    expect(pond.send(udp(peer, leased)).verdict).toBe(afterwards);
  });
});

describe('a leased UDP port', () => {
  test('is even for an even port and odd for an odd one (RFC 4787 REQ-4)', () => {
    const pond = new Pond([block(address, 'udp', 9_000, 9_007), block('198.51.100.11', 'udp', 8_192, 9_215)]);
    for (let port = 40_000; port < 40_300; port++)
      expect(outside(pond.send(udp({ ...client, port }, peer))).port % 2).toBe(port % 2);
  });

  test('of the other parity is better than none', () => {
    const pond = new Pond([block(address, 'udp', 9_000, 9_007)]);
    const ports = Array.from(
      { length: 8 },
      (_, i) => outside(pond.send(udp({ ...client, port: 2 * i + 2 }, peer))).port,
    );
    expect(ports.toSorted()).toEqual([9_000, 9_001, 9_002, 9_003, 9_004, 9_005, 9_006, 9_007]);
    expect(ports.slice(0, 4).every((port) => port % 2 === 0)).toBe(true);
    expect(pond.send(udp({ ...client, port: 1 }, peer)).verdict).toBe('no_port');
  });

  test('is of any parity when that is not wanted', () => {
    const pond = new Pond([block(address, 'udp', 9_000, 9_007)], { udpPortParity: false });
    const ports = Array.from(
      { length: 4 },
      (_, i) => outside(pond.send(udp({ ...client, port: 2 * i + 2 }, peer))).port,
    );
    expect(new Set(ports.map((port) => port % 2)).size).toBe(2);
  });
});
