import { describe, expect, test } from 'vitest';
import { ipv4FromNumber } from '../../../src/net/address.ts';
import { block, client, origin, outside, Pond, shared } from '../../support/fish.ts';
import { tcp, udp, type Endpoint } from '../../support/packets.ts';

const leases = ['198.51.100.10', '198.51.100.11', '198.51.100.12', '198.51.100.13'];
const of = (protocol: 'tcp' | 'udp', last = 9_007) => leases.map((each) => block(each, protocol, 9_000, last));
const elsewhere: Endpoint = { address: '203.0.113.2', port: 80 };
const from = (port: number, host = 2): Endpoint => ({ address: `100.96.0.${host}`, port });

describe('IP address pooling', () => {
  test('is paired: all of a client comes from one address, of TCP and UDP alike (RFC 4787 REQ-2, RFC 6888 REQ-2)', () => {
    const pond = new Pond([...of('tcp'), ...of('udp')]);
    const seen = new Set<string>();
    for (let port = 1; port <= 7; port++) {
      seen.add(outside(pond.send(udp(from(port), origin))).address);
      for (const to of [origin, elsewhere]) seen.add(outside(pond.send(tcp(from(port), to, 'S'))).address);
    }
    expect(seen.size).toBe(1);
    // Others are elsewhere, by chance.
    const all = Array.from({ length: 20 }, (_, host) => outside(pond.send(udp(from(1, host + 10), origin))).address);
    expect(new Set(all).size).toBeGreaterThan(1);
  });

  test('falls back on the other addresses, so that not a port is lost, and stays with the one that it found', () => {
    const pond = new Pond(of('udp'), { clientShare: 1 });
    const seen = Array.from({ length: 32 }, (_, i) => outside(pond.send(udp(from(i + 1), origin))));
    expect(new Set(seen.map(({ address, port }) => `${address} ${port}`)).size).toBe(32);
    // One address after the other.
    const turns = seen.filter(({ address }, i) => i > 0 && address !== seen[i - 1]!.address).length;
    expect(turns).toBe(3);
    expect(pond.send(udp(from(99), origin)).verdict).toBe('no_port');
  });

  test('outlives the process', () => {
    const pond = new Pond(of('tcp'));
    const { address } = outside(pond.send(tcp(client, origin, 'S')));
    pond.restart({ seed: 7 });
    for (let port = 1; port < 6; port++)
      expect(outside(pond.send(tcp({ ...client, port }, elsewhere, 'S'))).address).toBe(address);
  });

  test('goes elsewhere when the address is not leased any more', () => {
    const pond = new Pond([...of('tcp'), ...of('udp')]);
    const { address } = outside(pond.send(udp(client, origin)));
    pond.send(tcp(client, origin, 'S'));
    pond.forwarder.setBlocks([...of('tcp').filter((each) => each.address !== address), ...of('udp')], pond.nowMs);
    const next = outside(pond.send(tcp(client, elsewhere, 'S'))).address;
    expect(next).not.toBe(address);
    expect(outside(pond.send(tcp(client, { ...elsewhere, port: 81 }, 'S'))).address).toBe(next);
    // UDP has it still.
    expect(outside(pond.send(udp({ ...client, port: 5 }, origin))).address).toBe(address);
  });

  test('is arbitrary when that is wanted', () => {
    const pond = new Pond(of('udp'), { addressPooling: 'arbitrary' });
    const seen = Array.from({ length: 16 }, (_, i) => outside(pond.send(udp(from(i + 1), origin))).address);
    expect(new Set(seen).size).toBe(4);
  });

  test('is strict when that is wanted: there is no other address, whatever is free there', () => {
    const pond = new Pond(of('udp'), { addressPooling: 'paired_strict', clientShare: 1 });
    const seen = Array.from({ length: 8 }, (_, i) => outside(pond.send(udp(from(i + 1), origin))).address);
    expect(new Set(seen).size).toBe(1);
    expect(pond.send(udp(from(99), origin)).verdict).toBe('no_port');
  });

  test('leaves the kernel to be asked about other addresses, too, when strangers crowd the own one', () => {
    const pond = new Pond(leases.map((each) => block(each, 'tcp', 8_192, 8_255, shared())));
    const { address } = outside(pond.send(tcp(client, origin, 'S')));
    for (let port = 8_192; port <= 8_255; port++)
      pond.kernel.strangers.add(`${address}:${port} ${elsewhere.address}:${elsewhere.port}`);
    expect(outside(pond.send(tcp(client, elsewhere, 'S'))).address).not.toBe(address);
  });
});

describe('what the kernel is asked for one flow', () => {
  const askedOf = (pond: Pond) => {
    const asked: string[] = [];
    const { kernel } = pond;
    const open = kernel.open.bind(kernel);
    kernel.open = (address, ...more) => (asked.push(ipv4FromNumber(address)), open(address, ...more));
    return asked;
  };

  test('is no more than the settings say, half of it about the address that the client uses, the rest wherever there may be one', () => {
    const pond = new Pond(
      leases.map((each) => block(each, 'tcp', 8_192, 8_255, shared())),
      { placeholderAttemptsMax: 8 },
    );
    const { address } = outside(pond.send(tcp(client, origin, 'S')));
    for (const each of leases)
      for (let port = 8_192; port <= 8_255; port++)
        pond.kernel.strangers.add(`${each}:${port} ${elsewhere.address}:${elsewhere.port}`);
    const asked = askedOf(pond);
    expect(pond.send(tcp(client, elsewhere, 'S')).verdict).toBe('no_port');
    expect(asked).toHaveLength(8);
    expect(new Set(asked.slice(0, 4))).toEqual(new Set([address]));
    expect(asked.slice(4).some((each) => each !== address)).toBe(true);
    // A client without an address of its own has all for all of them.
    asked.splice(0);
    pond.send(tcp(from(1, 9), elsewhere, 'S'));
    expect(asked).toHaveLength(8);
  });

  test('about an address whose free ports have run out is left for the others', () => {
    const pond = new Pond(
      leases.map((each) => block(each, 'tcp', 8_192, 8_193, shared())),
      { placeholderAttemptsMax: 8, clientShare: 1 },
    );
    const { address } = outside(pond.send(tcp(client, origin, 'S')));
    for (const each of leases)
      for (const port of [8_192, 8_193])
        pond.kernel.strangers.add(`${each}:${port} ${elsewhere.address}:${elsewhere.port}`);
    const asked = askedOf(pond);
    pond.send(tcp(client, elsewhere, 'S'));
    // Two there, and six of the eight that there are: its own once more.
    expect([asked.length, asked.slice(0, 2)]).toEqual([8, [address, address]]);
  });
});

describe('more ports than a search looks at', () => {
  test('are nearly all used before the first search fails: none goes where others have gone', () => {
    const pond = new Pond([block(leases[0]!, 'tcp', 8_192, 12_287)], {
      portProbesMax: 128,
      clientShare: 1,
      flowsMax: 8_192,
    });
    let used = 0;
    while (pond.send(tcp(from(used + 1), origin, 'S')).verdict === 'forward') used++;
    // One search in f^-128: with nine of ten used, one in 700,000.
    expect(used).toBeGreaterThan(4_096 * 0.9);
  });
});

describe('the port of a new flow', () => {
  const fresh = (seed: number) => new Pond([block(leases[0]!, 'tcp', 8_192, 8_319)], { seed });

  test('is any of the lease, and none follows from the one before (RFC 6056)', () => {
    const first = Array.from(
      { length: 200 },
      (_, seed) => outside(fresh(seed + 1).send(tcp(client, origin, 'S'))).port,
    );
    // Of 128 ports 200 draws leave out a quarter at most.
    expect(new Set(first).size).toBeGreaterThan(80);
    expect(Math.min(...first)).toBeLessThan(8_192 + 16);
    expect(Math.max(...first)).toBeGreaterThan(8_319 - 16);
    const pond = fresh(7);
    const ports = Array.from({ length: 64 }, (_, each) => outside(pond.send(tcp(from(each + 1), origin, 'S'))).port);
    const steps = ports.slice(1).map((port, each) => port - ports[each]!);
    expect(new Set(steps).size).toBeGreaterThan(32);
  });
});

describe('ten leased ports', () => {
  test('serve thousands of TCP connections to different servers, none of whose 5-tuples is used twice', () => {
    const pond = new Pond([block(leases[0]!, 'tcp', 9_000, 9_007), block(leases[0]!, 'tcp', 9_008, 9_009)], {
      flowsMax: 16_384,
    });
    const tuples = new Set<string>();
    for (let server = 0; server < 5_000; server++) {
      const to = { address: `203.0.${server >>> 8}.${server & 255}`, port: 443 };
      const { address, port } = outside(pond.send(tcp(from(1_024 + server, 2 + (server % 50)), to, 'S')));
      expect(address).toBe(leases[0]);
      expect(port).toBeGreaterThanOrEqual(9_000);
      expect(port).toBeLessThanOrEqual(9_009);
      tuples.add(`${address}:${port} ${to.address}:${to.port}`);
    }
    expect(tuples.size).toBe(5_000);
    expect(pond.forwarder.counters()).toMatchObject({ flowsLive: 5_000 });
    expect(pond.drops()).toEqual({});
    // And ten to each of them.
    const busy = { address: '203.0.0.7', port: 443 };
    const more = Array.from({ length: 12 }, (_, i) => pond.send(tcp(from(9, 100 + i), busy, 'S')).verdict);
    expect(more.filter((verdict) => verdict === 'forward')).toHaveLength(9);
    expect(more.filter((verdict) => verdict === 'no_port')).toHaveLength(3);
  });
});

describe('a lease that drains', () => {
  const blocks = [block(leases[0]!, 'tcp', 9_000, 9_003), block(leases[1]!, 'tcp', 9_008, 9_015)];
  const [stays, drains] = ['tcp-9000', 'tcp-9008'];

  test('gets no new flows, while those that it has go on, and gets them again when it is told so', () => {
    const pond = new Pond(blocks, { clientShare: 1 });
    const seen = Array.from({ length: 12 }, (_, i) => outside(pond.send(tcp(from(i + 1), origin, 'S'))));
    expect(new Set(seen.map(({ address }) => address)).size).toBe(2);
    pond.forwarder.drain([drains]);
    // All of them go on.
    for (const [i, before] of seen.entries()) expect(outside(pond.send(tcp(from(i + 1), origin, 'S')))).toEqual(before);
    for (let i = 0; i < 4; i++) expect(outside(pond.send(tcp(from(i + 1), elsewhere, 'S'))).address).toBe(leases[0]);
    expect(pond.send(tcp(from(50), elsewhere, 'S')).verdict).toBe('no_port');
    pond.forwarder.drain([]);
    expect(outside(pond.send(tcp(from(50), elsewhere, 'S'))).address).toBe(leases[1]);
  });

  test('is told of with its flows, beside how far the ports are used and how often there was none', () => {
    const pond = new Pond([...blocks, block(leases[0]!, 'udp', 9_000, 9_007)], { clientShare: 1 });
    for (let i = 0; i < 6; i++) pond.send(tcp(from(i + 1), origin, 'S'));
    pond.send(tcp(from(1), elsewhere, 'S'));
    pond.forwarder.drain([drains]);
    for (let i = 0; i < 9; i++) pond.send(udp(from(i + 1), i % 2 === 0 ? origin : elsewhere));
    const { protocols, leases: used } = pond.forwarder.portUse();
    expect(protocols).toEqual([
      { protocol: 'tcp', family: 4, ports: 4, portsDraining: 8, busiest: 6, refused: 0 },
      // Its ports are in use toward everybody.
      { protocol: 'udp', family: 4, ports: 8, portsDraining: 0, busiest: 8, refused: 1 },
    ]);
    expect(used.map(({ lease, draining }) => [lease, draining])).toEqual([
      [stays, false],
      [drains, true],
      ['udp-9000', false],
    ]);
    expect(used.reduce((sum, { flows }) => sum + flows, 0)).toBe(7 + 8);
  });

  test('drains on when the blocks change', () => {
    const pond = new Pond(blocks);
    pond.forwarder.drain([drains]);
    pond.forwarder.setBlocks([...blocks, block(leases[2]!, 'udp', 9_000, 9_007)], 0);
    for (let i = 0; i < 3; i++) expect(outside(pond.send(tcp(from(i + 1), origin, 'S'))).address).toBe(leases[0]);
  });
});
