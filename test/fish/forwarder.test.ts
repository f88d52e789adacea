import { describe, expect, test } from 'vitest';
import { block, client, connect, finish, inside, origin, outside, Pond, shared } from '../support/fish.ts';
import { checksumProblem, echo, read, tcp, udp, type Endpoint } from '../support/packets.ts';

const address = '198.51.100.10';
const other: Endpoint = { address: '100.96.0.3', port: 40_000 };
const elsewhere: Endpoint = { address: '203.0.113.2', port: 443 };
const dns: Endpoint = { address: '203.0.113.1', port: 53 };

const states = (pond: Pond) => [...pond.forwarder.flows()].map((flow) => flow.state);

describe('UDP', () => {
  const blocks = [block(address, 'udp', 9_000, 9_007), block('198.51.100.11', 'udp', 9_000, 9_007)];

  test('has one mapping per client port, whatever the destination (RFC 4787 REQ-1)', () => {
    const pond = new Pond(blocks);
    const leased = outside(pond.send(udp(client, dns)));
    expect(outside(pond.send(udp(client, elsewhere)))).toEqual(leased);
    expect(outside(pond.send(udp({ ...client, port: 40_001 }, dns)))).not.toEqual(leased);
    expect(outside(pond.send(udp(other, dns)))).not.toEqual(leased);
  });

  test('lets anybody answer by default, and only whom the client has sent to when asked for', () => {
    const stranger = { address: '203.0.113.99', port: 5_000 };
    const open = new Pond(blocks);
    expect(inside(open.send(udp(stranger, outside(open.send(udp(client, dns))))))).toEqual(client);

    const strict = new Pond(blocks, { udpFiltering: 'address_dependent' });
    const leased = outside(strict.send(udp(client, dns)));
    expect(strict.send(udp(stranger, leased)).verdict).toBe('filtered');
    // The address counts, not the port.
    expect(inside(strict.send(udp({ ...dns, port: 999 }, leased)))).toEqual(client);
    strict.send(udp(client, stranger));
    expect(inside(strict.send(udp(stranger, leased)))).toEqual(client);
  });

  test('remembers peers up to their number, and forgets them with the mapping', () => {
    const pond = new Pond(blocks, { udpFiltering: 'address_dependent', udpPeersMax: 1, timers: { udpRestS: 0 } });
    pond.send(udp(client, dns));
    expect(pond.send(udp(client, elsewhere)).verdict).toBe('peers_full');
    pond.pass(301);
    expect(pond.send(udp(client, elsewhere)).verdict).toBe('forward');
  });

  test('is kept by what goes out, not by what comes in', () => {
    const pond = new Pond(blocks);
    const leased = outside(pond.send(udp(client, dns)));
    pond.pass(200);
    pond.send(udp(client, dns));
    pond.pass(200);
    expect(inside(pond.send(udp(dns, leased)))).toEqual(client);
    pond.pass(99);
    expect(inside(pond.send(udp(dns, leased)))).toEqual(client);
    pond.pass(2);
    expect(pond.send(udp(dns, leased)).verdict).toBe('resting');
    pond.pass(121);
    expect(pond.send(udp(dns, leased)).verdict).toBe('no_flow');
  });

  test('without a checksum stays without one', () => {
    const pond = new Pond(blocks);
    const { bytes } = pond.send(udp(client, dns, { withoutChecksum: true }));
    expect([bytes[26], bytes[27]]).toEqual([0, 0]);
  });

  test('with a checksum that comes out as 0 carries 0xffff (RFC 768)', () => {
    const pond = new Pond([block(address, 'udp', 9_000, 9_000)]);
    // What is missing to a sum of 0xffff is put into the data.
    const missing = (packet: Uint8Array) => ((packet[26] ?? 0) << 8) | (packet[27] ?? 0);
    const empty = pond.send(udp(client, dns, { data: Uint8Array.of(0, 0) })).bytes;
    const word = missing(empty);
    const { bytes } = pond.send(udp(client, dns, { data: Uint8Array.of(word >>> 8, word & 255) }));
    expect([bytes[26], bytes[27]]).toEqual([0xff, 0xff]);
    expect(checksumProblem(bytes)).toBeUndefined();
  });

  test('uses every port of the lease, and then says that there is none', () => {
    const pond = new Pond(blocks, { clientShare: 1 });
    const ports = Array.from({ length: 16 }, (_, i) => outside(pond.send(udp({ ...client, port: 1_000 + i }, dns))));
    expect(new Set(ports.map((each) => `${each.address}:${each.port}`)).size).toBe(16);
    expect(pond.send(udp({ ...client, port: 2_000 }, dns)).verdict).toBe('no_port');
  });
});

describe('ICMP echo', () => {
  const blocks = [block(address, 'icmp', 9_000, 9_000)];

  test('has the leased port as its identifier, per destination', () => {
    const pond = new Pond(blocks);
    for (const remote of [origin.address, elsewhere.address])
      expect(outside(pond.send(echo(client.address, remote, 77)))).toEqual({ address, port: 9_000 });
    expect(inside(pond.send(echo(origin.address, address, 9_000, 0)))).toEqual({ address: client.address, port: 77 });
    expect(pond.send(echo(other.address, origin.address, 77)).verdict).toBe('no_port');
    pond.pass(61);
    expect(pond.send(echo(other.address, origin.address, 77)).verdict).toBe('forward');
  });

  test('of nothing but zeros has the checksum that is right for it', () => {
    const pond = new Pond(blocks);
    const silent = { data: new Uint8Array(4), sequence: 0 };
    pond.send({ ...echo(client.address, origin.address, 0), ...silent });
    const { bytes } = pond.send({ ...echo(origin.address, address, 9_000, 0), ...silent });
    expect([...bytes.subarray(20, 28)]).toEqual([0, 0, 0xff, 0xff, 0, 0, 0, 0]);
    expect(checksumProblem(bytes)).toBeUndefined();
  });

  test('is no way in: requests from outside and replies from inside are dropped', () => {
    const pond = new Pond(blocks);
    expect(pond.send(echo(origin.address, address, 9_000, 8)).verdict).toBe('icmp_type_unsupported');
    expect(pond.send(echo(client.address, origin.address, 5, 0)).verdict).toBe('icmp_type_unsupported');
    expect(pond.send(echo(origin.address, address, 9_000, 0)).verdict).toBe('no_flow');
  });

  test('of other types is not for a client, nor from one', () => {
    const pond = new Pond(blocks);
    for (const type of [9, 13, 17, 255])
      expect(pond.send({ ...echo(client.address, origin.address, 0), type }).verdict).toBe('icmp_type_unsupported');
  });
});

describe('who may send where', () => {
  const blocks = [block(address, 'tcp', 9_000, 9_007), block(address, 'udp', 9_000, 9_007)];

  test.each([
    ['100.128.0.1', 'source_not_allowed'],
    ['203.0.113.5', 'source_not_allowed'],
    ['127.0.0.1', 'source_not_allowed'],
    ['0.0.0.0', 'source_not_allowed'],
    [address, 'spoofed_source'],
  ])('a client %s: %s', (source, verdict) => {
    const pond = new Pond(blocks);
    expect(pond.send(udp({ address: source, port: 5 }, dns)).verdict).toBe(verdict);
    expect(pond.reply()).toBeUndefined();
  });

  test.each(['224.0.0.251', '255.255.255.255', '127.0.0.1', '169.254.1.1', '0.1.2.3'])('not to %s', (destination) => {
    const pond = new Pond(blocks);
    expect(pond.send(udp(client, { address: destination, port: 53 })).verdict).toBe('bad_destination');
  });

  test('a leased address inside an allowed prefix is no client', () => {
    const pond = new Pond([block('100.64.0.9', 'udp', 9_000, 9_007)]);
    expect(pond.send(udp({ address: '100.64.0.9', port: 9_000 }, dns)).verdict).toBe('spoofed_source');
  });

  test('unsolicited packets are dropped without an answer', () => {
    const pond = new Pond(blocks, { icmpSource: '192.0.2.1' as never });
    const leased = connect(pond, client, origin);
    expect(pond.send(tcp(origin, { address, port: 9_999 }, 'S')).verdict).toBe('no_flow');
    // The right port, another remote.
    expect(pond.send(tcp(elsewhere, leased, 'A')).verdict).toBe('no_flow');
    expect(pond.send(tcp({ ...origin, port: 444 }, leased, 'A')).verdict).toBe('no_flow');
    // The right numbers, another protocol.
    expect(pond.send(udp(origin, leased)).verdict).toBe('no_flow');
    expect(pond.reply()).toBeUndefined();
    expect(pond.drops()).toEqual({ no_flow: 4 });
  });
});

describe('a shared block', () => {
  const blocks = [block(address, 'tcp', 9_000, 9_003, shared('late'))];

  test('has a placeholder open before the first packet leaves, and closes it after the rest', () => {
    const pond = new Pond(blocks);
    const leased = connect(pond, client, origin);
    expect([...pond.kernel.held.values()]).toEqual([`${address}:${leased.port} ${origin.address}:${origin.port}`]);
    finish(pond, client, origin, leased);
    pond.pass(59);
    expect(pond.kernel.held.size).toBe(1);
    pond.pass(2);
    expect(pond.kernel.held.size).toBe(0);
    expect(pond.forwarder.counters()).toMatchObject({ placeholdersHeld: 0, placeholdersOpened: 1 });
  });

  test.each(['late', 'explicit'] as const)('steps around the tuples of others (%s)', (binding) => {
    const pond = new Pond([block(address, 'tcp', 9_000, 9_003, shared(binding))]);
    for (const port of [9_000, 9_001, 9_003])
      pond.kernel.strangers.add(`${address}:${port} ${origin.address}:${origin.port}`);
    expect(connect(pond, client, origin).port).toBe(9_002);
    expect(pond.send(tcp(other, origin, 'S')).verdict).toBe('no_port');
    // Toward somebody else they are all free.
    const ports = Array.from({ length: 4 }, (_, i) => connect(pond, { ...client, port: 100 + i }, elsewhere).port);
    expect(ports.toSorted()).toEqual([9_000, 9_001, 9_002, 9_003]);
    expect(pond.forwarder.counters().placeholdersTaken).toBeGreaterThanOrEqual(3);
  });

  test('asks the kernel a bounded number of times', () => {
    const pond = new Pond([block(address, 'tcp', 8_192, 9_215, shared())], { placeholderAttemptsMax: 5 });
    for (let port = 8_192; port <= 9_215; port++)
      pond.kernel.strangers.add(`${address}:${port} ${origin.address}:${origin.port}`);
    expect(pond.send(tcp(client, origin, 'S')).verdict).toBe('no_port');
    expect(pond.forwarder.counters().placeholdersTaken).toBe(5);
  });

  test('asks once when no other port would help, and remembers why', () => {
    const pond = new Pond(blocks);
    pond.kernel.failure = 24;
    expect(pond.send(tcp(client, origin, 'S')).verdict).toBe('placeholder_failed');
    expect(pond.forwarder.counters()).toMatchObject({ placeholdersFailed: 1, placeholderErrno: 24, flowsLive: 0 });
    pond.kernel.failure = 0;
    connect(pond, client, origin);
  });

  test('keeps to the budget, resting flows included', () => {
    const pond = new Pond(blocks, { placeholdersMax: 1 });
    finish(pond, client, origin, connect(pond, client, origin));
    expect(pond.send(tcp(other, origin, 'S')).verdict).toBe('placeholder_budget');
    pond.pass(61);
    connect(pond, other, origin);
  });

  test('beside an exclusive one leaves that to fall back on', () => {
    const pond = new Pond([...blocks, block('198.51.100.11', 'tcp', 9_000, 9_000)]);
    pond.kernel.failure = 24;
    expect(connect(pond, client, origin)).toEqual({ address: '198.51.100.11', port: 9_000 });
  });

  test('is no way around the flow table', () => {
    const pond = new Pond(blocks, { flowsMax: 1 });
    connect(pond, client, origin);
    expect(pond.send(tcp(other, origin, 'S')).verdict).toBe('table_full');
    expect(pond.kernel.opened).toHaveLength(1);
  });
});

describe('a client that gets no source is told', () => {
  const hostAddress = '100.96.0.1';
  const full = (settings: object = {}) => new Pond([], { icmpSource: hostAddress as never, ...settings });

  test('by ICMP administratively prohibited, which quotes its packet', () => {
    const pond = full({ vnetHeaderBytes: 10 });
    const packet = tcp(client, origin, 'S', { sequence: 4_711, data: new Uint8Array(700).fill(5) });
    const { verdict, bytes } = pond.send(packet);
    expect(verdict).toBe('no_lease');
    const reply = pond.reply()!;
    expect(reply.length).toBe(576);
    expect(read(reply)).toMatchObject({ protocol: 1, source: hostAddress, destination: client.address, ttl: 64 });
    expect([...reply.subarray(20, 22)]).toEqual([3, 13]);
    // Precedence 6, internetwork control (RFC 1812 4.3.2.5).
    expect(reply[1]).toBe(0xc0);
    expect(reply.subarray(28)).toEqual(bytes.subarray(0, 548));
    expect(checksumProblem(reply)).toBeUndefined();
    expect(pond.forwarder.reply.subarray(0, 10)).toEqual(new Uint8Array(10));
  });

  test('a short packet is quoted whole, and checked at an odd length too', () => {
    const pond = full();
    const { bytes } = pond.send(udp(client, dns, { data: Uint8Array.of(1) }));
    expect(pond.reply()!.subarray(28)).toEqual(bytes);
    expect(checksumProblem(pond.reply()!)).toBeUndefined();
  });

  test('only for the packet itself: the next one has no reply unless it fails too', () => {
    const pond = full();
    pond.send(tcp(client, origin, 'S'));
    pond.send(tcp(client, origin, 'A'));
    expect(pond.reply()).toBeUndefined();
  });

  test('so many times per second and no more', () => {
    const pond = full({ icmpErrorsPerSMax: 3 });
    const from = (host: number) => ({ ...client, address: `100.96.0.${host}` });
    const replies = () =>
      Array.from({ length: 5 }, (_, i) => (pond.send(tcp(from(i + 2), origin, 'S')), pond.reply() !== undefined));
    expect(replies()).toEqual([true, true, true, false, false]);
    pond.pass(0.34);
    expect(replies()).toEqual([true, false, false, false, false]);
    pond.pass(100);
    expect(replies()).toEqual([true, true, true, false, false]);
    expect(pond.forwarder.counters()).toMatchObject({ icmpErrorsSent: 7, icmpErrorsSuppressed: 8 });
  });

  test('not at all without an address to send from', () => {
    const pond = new Pond([]);
    expect(pond.send(tcp(client, origin, 'S')).verdict).toBe('no_lease');
    expect(pond.reply()).toBeUndefined();
  });
});

describe('taking blocks away', () => {
  const [a, b] = [
    block(address, 'tcp', 9_000, 9_000, shared()),
    block('198.51.100.11', 'tcp', 9_000, 9_000, { lease: 'b' }),
  ];

  test('ends their flows at once, closes their placeholders, and leaves the others alone', () => {
    const pond = new Pond([a]);
    const resting = connect(pond, client, elsewhere);
    finish(pond, client, elsewhere, resting);
    const gone = connect(pond, client, origin);
    pond.forwarder.setBlocks([a, b], pond.nowMs);
    const kept = connect(pond, other, origin);
    expect(kept.address).toBe('198.51.100.11');
    expect(pond.forwarder.setBlocks([b], pond.nowMs)).toEqual({ closed: 1, placeholders: 2, added: 0, refused: [] });
    expect(pond.kernel.held.size).toBe(0);
    expect([...pond.forwarder.flows()]).toMatchObject([{ client: other.address, state: 'live' }]);
    expect(pond.send(tcp(other, origin, 'A', { sequence: 101, acknowledgement: 501 })).verdict).toBe('forward');
    expect(pond.send(tcp(client, origin, 'A', { sequence: 101, acknowledgement: 501 })).verdict).toBe('not_syn');
    // The address is nobody's now, so what comes for it is not even from outside.
    expect(pond.send(tcp(origin, gone, 'A')).verdict).toBe('source_not_allowed');
    expect(pond.forwarder.counters()).toMatchObject({ flowsEnded: { lease_ended: 1, finished: 1 }, flowsLive: 1 });
  });

  test('by the lease takes all blocks of that lease', () => {
    const pond = new Pond([a, b, block('198.51.100.11', 'udp', 9_000, 9_000, { lease: 'b' })]);
    pond.send(udp(client, dns));
    expect(pond.forwarder.endLease('b', pond.nowMs)).toMatchObject({ closed: 1 });
    expect(pond.forwarder.counters().blocks).toEqual([{ ...a, portCount: 1, flows: 0 }]);
    expect(pond.send(udp(client, dns)).verdict).toBe('no_lease');
  });

  test('does not end flows of blocks that are listed again', () => {
    const pond = new Pond([a, b]);
    connect(pond, client, origin);
    expect(pond.forwarder.setBlocks([{ ...b }, { ...a }], pond.nowMs)).toMatchObject({ closed: 0, added: 0 });
    expect(states(pond)).toEqual(['live']);
  });
});

describe('when the server has been silent for too long', () => {
  const blocks = [block(address, 'tcp', 9_000, 9_003, shared()), block(address, 'udp', 9_000, 9_000)];

  test('all flows end, without a rest and with that reason, and their placeholders are closed', () => {
    const pond = new Pond(blocks);
    const resting = connect(pond, client, elsewhere);
    finish(pond, client, elsewhere, resting);
    const gone = connect(pond, client, origin);
    pond.send(udp(client, dns));
    const at = [...pond.forwarder.flows({ protocol: 'tcp', state: 'live' })][0]!.openedAt;
    expect(pond.forwarder.fence(pond.nowMs)).toMatchObject({ closed: 2, placeholders: 2 });
    expect([pond.kernel.held.size, [...pond.forwarder.flows()]]).toEqual([0, []]);
    expect(pond.forwarder.counters()).toMatchObject({ flowsEnded: { fenced: 2, lease_ended: 0 }, blocks: [] });
    const query = { protocol: 'tcp', ...gone, remote: origin.address, remotePort: origin.port } as const;
    expect(pond.forwarder.whoHad({ ...query, at } as never, pond.nowMs, 10).matches).toMatchObject([
      { ending: 'fenced' },
    ]);
  });

  test('nobody begins a flow, which the client hears, until the blocks are told again', () => {
    const pond = new Pond(blocks, { icmpSource: '100.96.0.1' as never });
    pond.forwarder.fence(pond.nowMs);
    expect(pond.send(tcp(client, origin, 'S')).verdict).toBe('fenced');
    expect(pond.reply()).toBeDefined();
    expect(pond.send(udp(client, dns)).verdict).toBe('fenced');
    expect(pond.forwarder.counters()).toMatchObject({ drops: { fenced: 2, no_lease: 0 }, flowsLive: 0 });
    pond.forwarder.setBlocks(blocks, pond.nowMs);
    connect(pond, client, origin);
    expect(pond.send(udp(client, dns)).verdict).toBe('forward');
  });
});

describe('looking in', () => {
  test('flows can be asked for by any part', () => {
    const pond = new Pond([block(address, 'tcp', 9_000, 9_007, shared()), block(address, 'udp', 9_000, 9_000)]);
    pond.pass(1);
    const leased = connect(pond, client, origin);
    finish(pond, client, origin, leased);
    pond.pass(1);
    connect(pond, other, elsewhere);
    pond.send(udp(client, dns));
    const found = (filter: Parameters<typeof pond.forwarder.flows>[0]) =>
      [...pond.forwarder.flows(filter)].map((flow) => `${flow.protocol} ${flow.client} ${flow.state}`).toSorted();
    expect(found({ protocol: 'udp' })).toEqual(['udp 100.96.0.2 live']);
    expect(found({ client: '100.96.0.2' as never })).toEqual(['tcp 100.96.0.2 resting', 'udp 100.96.0.2 live']);
    expect(found({ remote: '203.0.113.2' as never })).toEqual(['tcp 100.96.0.3 live']);
    expect(found({ lease: 'tcp-9000', state: 'live' })).toEqual(['tcp 100.96.0.3 live']);
    expect([...pond.forwarder.flows({ state: 'resting' })]).toEqual([
      {
        lease: 'tcp-9000',
        protocol: 'tcp',
        client: client.address,
        clientPort: client.port,
        address,
        port: leased.port,
        remote: origin.address,
        remotePort: origin.port,
        state: 'resting',
        openedAt: pond.at(1),
        hasPlaceholder: true,
        ...{ packetsOut: 4, bytesOut: 160, packetsIn: 2, bytesIn: 80 },
      },
    ]);
  });

  test('counters tell packets and bytes each way, and how full each block is', () => {
    const pond = new Pond([block(address, 'udp', 9_000, 9_007)]);
    const leased = outside(pond.send(udp(client, dns)));
    pond.send(udp(client, dns));
    pond.send(udp(dns, leased, { data: new Uint8Array(100) }));
    expect(pond.forwarder.counters()).toMatchObject({
      packetsOut: 2,
      bytesOut: 2 * 31,
      packetsIn: 1,
      bytesIn: 128,
      flowsOpened: 1,
      flowsLive: 1,
      flowsResting: 0,
      flowsMax: 1_024,
      blocks: [{ lease: 'udp-9000', portCount: 8, flows: 1 }],
    });
  });

  test('expiry does no more than it is told to', () => {
    const pond = new Pond([block(address, 'udp', 8_192, 9_215)], { timers: { udpRestS: 0 } });
    for (let i = 0; i < 100; i++) pond.send(udp({ ...client, port: 1 + i }, dns));
    pond.nowMs = 301_000;
    expect([30, 30, 30, 30].map((max) => pond.forwarder.expire(pond.nowMs, max))).toEqual([30, 30, 30, 10]);
    expect(states(pond)).toEqual([]);
  });
});
