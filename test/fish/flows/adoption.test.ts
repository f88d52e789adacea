import { fc, test } from '@fast-check/vitest';
import { describe, expect } from 'vitest';
import { copyMemory } from '../../../src/fish/flows/flow-copy.ts';
import { FlowMemory, type MemorySizes } from '../../../src/fish/flows/flow-memory.ts';
import { block, client, origin, Pond, shared } from '../../support/fish.ts';
import { addressNumber, echo, read, tcp, udp, type Endpoint } from '../../support/packets.ts';

const address = '198.51.100.10';
const dns: Endpoint = { address: '203.0.113.1', port: 53 };
const sharedBlock = block(address, 'tcp', 9_000, 9_007, shared());
const ownBlock = block('198.51.100.11', 'tcp', 9_000, 9_000);
const udpBlock = block(address, 'udp', 9_000, 9_000);
const echoBlock = block(address, 'icmp', 9_000, 9_000);
const all = [sharedBlock, udpBlock, echoBlock];

const outside = (sent: { verdict: string; bytes: Uint8Array }): Endpoint => {
  expect(sent.verdict).toBe('forward');
  const { source, sourcePort } = read(sent.bytes);
  return { address: source, port: sourcePort };
};
const states = (pond: Pond) => [...pond.forwarder.flows()].map((flow) => flow.state);
const adoption = (pond: Pond) =>
  Object.fromEntries(Object.entries(pond.forwarder.counters().adoption).filter(([, count]) => count > 0));

/** One flow of each protocol, the TCP connection established. */
function begin(pond: Pond): Endpoint {
  const leased = outside(pond.send(tcp(client, origin, 'S', { sequence: 100 })));
  pond.send(tcp(origin, leased, 'SA', { sequence: 500, acknowledgement: 101 }));
  pond.send(tcp(client, origin, 'A', { sequence: 101, acknowledgement: 501 }));
  pond.send(udp(client, dns));
  pond.send(echo(client.address, dns.address, 77));
  return leased;
}

describe('the successor of a fish that was killed', () => {
  test('goes on with every flow as it was, without asking the kernel for anything', () => {
    const pond = new Pond(all);
    const leased = begin(pond);
    const before = pond.flowsAlone();
    const { opened } = pond.kernel;
    pond.restart();
    expect(pond.flowsAlone()).toEqual(before);
    expect(pond.kernel.opened).toBe(opened);
    expect(outside(pond.send(tcp(client, origin, 'A', { sequence: 101, acknowledgement: 501 })))).toEqual(leased);
    expect(pond.send(tcp(origin, leased, 'A', { sequence: 501, acknowledgement: 101 })).verdict).toBe('forward');
    expect(pond.send(udp(dns, { address, port: 9_000 })).verdict).toBe('forward');
    expect(pond.send(echo(dns.address, address, 9_000, 0)).verdict).toBe('forward');
    expect(adoption(pond)).toEqual({ flows: 3 });
    expect(pond.forwarder.counters()).toMatchObject({ flowsLive: 3, flowsOpened: 0, placeholdersHeld: 1 });
  });

  test('leaves flows the time that they had left, no more', () => {
    const pond = new Pond(all);
    begin(pond);
    pond.pass(59);
    pond.restart();
    expect(states(pond)).toEqual(['live', 'live', 'live']);
    pond.pass(2);
    // The echo had 60 s and rests not at all.
    expect(states(pond)).toEqual(['live', 'live']);
    pond.pass(240);
    expect(states(pond).toSorted()).toEqual(['live', 'resting']);
    // What was overdue while nobody was there is found at once; the datagrams' tuple has rested long since.
    pond.nowMs += 7_440_000;
    pond.restart();
    pond.pass(0);
    expect(states(pond)).toEqual(['resting']);
  });

  test('believes no sequence number that its predecessor would not have believed', () => {
    const pond = new Pond(all);
    const leased = begin(pond);
    pond.restart();
    pond.send(tcp(origin, leased, 'R', { sequence: 99 }));
    expect(pond.forwarder.counters().tcpStrays).toBe(1);
    pond.send(tcp(origin, leased, 'R', { sequence: 501 }));
    expect(states(pond).filter((state) => state === 'resting')).toHaveLength(1);
  });

  test('knows whom a client has sent to, where only those may answer', () => {
    const settings = { udpFiltering: 'address_dependent', udpPeersMax: 4 } as const;
    const pond = new Pond([udpBlock], settings);
    const leased = outside(pond.send(udp(client, dns)));
    pond.restart();
    expect(pond.send(udp(dns, leased)).verdict).toBe('forward');
    expect(pond.send(udp({ ...dns, address: '203.0.113.99' }, leased)).verdict).toBe('filtered');
  });

  test('says of the time before it that it does not know who has ended, and of flows that last when they began', () => {
    const pond = new Pond(all);
    const leased = begin(pond);
    pond.pass(61);
    pond.restart();
    const ask = (seconds: number, port = leased.port, protocol: 'tcp' | 'icmp' = 'tcp') =>
      pond.forwarder.whoHad(
        { protocol, address: address as never, port, remote: null, remotePort: null, at: pond.at(seconds) },
        pond.nowMs,
        10,
      );
    expect(ask(30)).toMatchObject({
      verdict: 'match',
      matches: [{ client: client.address, openedAt: pond.at(0), closedAt: null }],
      coversSince: pond.at(61),
    });
    // There was one, and it ended; its record is gone with the process.
    expect(ask(30, 9_000, 'icmp').verdict).toBe('not_covered');
    pond.pass(10);
    expect(ask(65, 9_000, 'icmp').verdict).toBe('not_mine');
  });

  test('takes over in pieces of any size, and forwards nothing wrong if blocks change in between', () => {
    const pond = new Pond([sharedBlock, udpBlock]);
    begin(pond);
    for (const piece of [1, 3, 1_024, 5_000]) {
      pond.restart({}, (forwarder) => {
        let looked = 0;
        for (let step = piece; step === piece; looked += step) step = forwarder.adopt(pond.nowMs, piece);
        expect(looked).toBe(1_024);
      });
      expect(states(pond)).toEqual(['live', 'live']);
    }
    pond.restart({}, (forwarder) => {
      forwarder.adopt(pond.nowMs, 1);
      expect(forwarder.setBlocks([udpBlock], pond.nowMs)).toMatchObject({ closed: 1, placeholders: 1 });
    });
    expect(states(pond)).toEqual(['live']);
    expect(pond.kernel.held.size).toBe(0);
  });
});

describe('what a successor does not trust', () => {
  test('is what no flow could be: dropped, counted, its placeholder closed', () => {
    const breakers: ((flows: FlowMemory['columns']['flows'], row: number) => void)[] = [
      (flows, row) => (flows.state[row] = 3),
      (flows, row) => (flows.attached[row] = 2),
      (flows, row) => (flows.attached[row] = 0),
      (flows, row) => (flows.protocol[row] = 41),
      (flows, row) => (flows.openedMs[row] = NaN),
      (flows, row) => (flows.openedMs[row] = 1e12),
      // Before its deadline, and after now.
      (flows, row) => (flows.openedMs[row] = 1_000),
      (flows, row) => (flows.deadlineMs[row] = Infinity),
      (flows, row) => (flows.deadlineMs[row] = -1),
      (flows, row) => (flows.client[row] = 0),
      (flows, row) => (flows.clientPort[row] = 0),
      (flows, row) => (flows.remote[row] = 0),
      (flows, row) => (flows.remotePort[row] = 0),
    ];
    for (const breakIt of breakers) {
      const pond = new Pond([sharedBlock]);
      outside(pond.send(tcp(client, origin, 'S')));
      const { flows } = pond.memory.columns;
      breakIt(flows, flows.state.indexOf(1));
      pond.restart();
      expect(adoption(pond)).toEqual({ damaged: 1, placeholders_left_over: 1 });
      expect([states(pond), pond.kernel.held.size]).toEqual([[], 0]);
    }
  });

  test.each<[string, (sides: FlowMemory['columns']['tcp'], client: number, remote: number) => void]>([
    ['of which nobody has seen a SYN', (sides, client, remote) => (sides.seen[client] = sides.seen[remote] = 0)],
    ['with marks that nobody makes', (sides, client) => (sides.seen[client] = 0xff)],
    ["with marks of the remote's that nobody makes", (sides, _client, remote) => (sides.seen[remote] = 0x40)],
    ['whose window is scaled by more than can be', (sides, client) => (sides.scale[client] = 15)],
    ["whose remote's window is scaled by more than can be", (sides, _client, remote) => (sides.scale[remote] = 255)],
  ])('is a connection %s', (_what, breakIt) => {
    const pond = new Pond([ownBlock]);
    outside(pond.send(tcp(client, origin, 'S')));
    const { flows, tcp: sides } = pond.memory.columns;
    const row = flows.state.indexOf(1);
    breakIt(sides, row * 2, row * 2 + 1);
    pond.restart();
    expect(adoption(pond)).toEqual({ damaged: 1 });
  });

  test.each([
    ['endpoint_independent', 'address_and_port_dependent'],
    ['address_dependent', 'endpoint_independent'],
    ['address_and_port_dependent', 'address_dependent'],
  ] as const)('is a UDP flow of the mapping %s, where it is %s by now', (before, now) => {
    const pond = new Pond([udpBlock, ownBlock], { udpMapping: before });
    outside(pond.send(udp(client, dns)));
    outside(pond.send(tcp(client, origin, 'S')));
    pond.restart({ udpMapping: now });
    expect(adoption(pond)).toEqual({ flows: 1, not_allowed: 1 });
  });

  test('is a client whose address is leased by now', () => {
    const pond = new Pond([ownBlock]);
    outside(pond.send(tcp(client, origin, 'S')));
    pond.forwarder.setBlocks([ownBlock, block(client.address, 'tcp', 9_000, 9_000)], 0);
    pond.restart();
    expect(adoption(pond)).toEqual({ not_allowed: 1 });
  });

  test('is a second flow with the keys of another', () => {
    const pond = new Pond([ownBlock]);
    outside(pond.send(tcp(client, origin, 'S')));
    const { flows, tcp: sides } = pond.memory.columns;
    const row = flows.state.indexOf(1);
    for (const column of Object.values(flows)) column[row === 0 ? 1 : 0] = column[row]!;
    for (const column of Object.values(sides)) column.copyWithin(row === 0 ? 2 : 0, row * 2, row * 2 + 2);
    pond.restart();
    expect(adoption(pond)).toEqual({ flows: 1, damaged: 1 });
  });

  test('is a flow of a block that is not there, or that does not contain its tuple', () => {
    const pond = new Pond([ownBlock, udpBlock]);
    outside(pond.send(tcp(client, origin, 'S')));
    outside(pond.send(udp(client, dns)));
    const { flows, blocks } = pond.memory.columns;
    blocks.leaseBytes.fill(0);
    pond.restart();
    expect(adoption(pond)).toEqual({ without_block: 2 });

    const other = new Pond([ownBlock]);
    outside(other.send(tcp(client, origin, 'S')));
    other.memory.columns.flows.leased.fill(addressNumber(address));
    other.restart();
    expect(adoption(other)).toEqual({ without_block: 1 });
    expect(flows.state.every((state) => state === 0)).toBe(true);
  });

  test('is a client that the settings do not name any more', () => {
    const pond = new Pond([ownBlock]);
    outside(pond.send(tcp(client, origin, 'S')));
    pond.restart({ clientPrefixes: ['10.0.0.0/8', 'fd00::/8'] as never });
    expect(adoption(pond)).toEqual({ not_allowed: 1 });
  });

  test('is that a placeholder is there: one that is not is opened anew, unless somebody took the tuple', () => {
    const pond = new Pond([sharedBlock]);
    const leased = outside(pond.send(tcp(client, origin, 'S')));
    const [tuple] = pond.kernel.held.values();
    pond.kernel.held.clear();
    pond.restart();
    expect(adoption(pond)).toEqual({ flows: 1, placeholders_reopened: 1 });
    expect([...pond.kernel.held.values()]).toEqual([tuple]);
    expect(outside(pond.send(tcp(client, origin, 'S')))).toEqual(leased);

    pond.kernel.held.clear();
    pond.kernel.strangers.add(tuple!);
    pond.restart();
    expect(adoption(pond)).toEqual({ without_placeholder: 1 });
  });

  test('is that a placeholder was what it was kept as: what was closed for that is counted', () => {
    const pond = new Pond([sharedBlock]);
    outside(pond.send(tcp(client, origin, 'S')));
    pond.kernel.held.clear();
    pond.kernel.disbelieved = 1;
    pond.restart();
    expect(adoption(pond)).toEqual({ flows: 1, placeholders_reopened: 1, placeholders_disbelieved: 1 });
  });

  test('is that a placeholder is of its tuple, or of one flow only', () => {
    const pond = new Pond([sharedBlock]);
    outside(pond.send(tcp(client, origin, 'S')));
    outside(pond.send(tcp({ ...client, port: 1 }, origin, 'S')));
    const { flows } = pond.memory.columns;
    const [first, second] = [...flows.state.keys()].filter((row) => flows.state[row] === 1) as [number, number];
    flows.placeholder[first] = flows.placeholder[second]!;
    pond.restart();
    // The first one's own tuple is still held by somebody, so it cannot be had anew; in the end nobody has it.
    expect(adoption(pond)).toEqual({ flows: 1, without_placeholder: 1, placeholders_left_over: 1 });
    expect(pond.kernel.held.size).toBe(1);
  });

  test.prop(
    [
      fc.array(fc.tuple(fc.nat(), fc.nat({ max: 255 })), { minLength: 1, maxLength: 40 }),
      fc.array(fc.nat({ max: 5 }), { maxLength: 20 }),
      fc.integer(),
    ],
    { numRuns: 400 },
  )(
    'is anything: with whatever bytes changed it forwards by rows that agree with each other',
    (damage, packets, seed) => {
      const blocks = [...all, ownBlock];
      const settings = { flowsMax: 8, blocksMax: 4, udpFiltering: 'address_dependent', udpPeersMax: 4, seed } as const;
      const pond = new Pond(blocks, settings);
      begin(pond);
      outside(pond.send(tcp({ ...client, port: 2 }, origin, 'S')));
      // Where the rows that are used are; in the whole of it most damage would hit nothing.
      const columns = Object.values(pond.memory.columns).flatMap((group) => Object.values(group));
      for (const [at, value] of damage) {
        const column = columns[at % columns.length]!;
        const bytes = new Uint8Array(column.buffer, column.byteOffset, column.byteLength);
        bytes[Math.floor(at / columns.length) % bytes.length] = value;
      }
      pond.restart();
      for (const packet of packets) {
        if (packet === 0) pond.pass(100);
        else if (packet === 1) pond.send(echo(client.address, dns.address, 78));
        else
          pond.send(packet < 4 ? tcp({ ...client, port: packet }, origin, 'S') : udp(client, { ...dns, port: packet }));
        const flows = [...pond.forwarder.flows()];
        const outer = flows.map(
          (each) => `${each.protocol} ${each.address}:${each.port} ${each.remote}:${each.remotePort}`,
        );
        expect(new Set(outer).size).toBe(outer.length);
        const held = flows.filter((each) => each.hasPlaceholder);
        expect([...pond.kernel.held.values()].toSorted()).toEqual(
          held.map((each) => `${each.address}:${each.port} ${each.remote}:${each.remotePort}`).toSorted(),
        );
        const { blocks: uses } = pond.forwarder.counters();
        expect(uses.reduce((sum, use) => sum + use.flows, 0)).toBe(flows.length);
      }
      // All of it can be taken back.
      pond.forwarder.setBlocks([], pond.nowMs);
      expect([states(pond), pond.kernel.held.size]).toEqual([[], 0]);
    },
  );
});

describe('the memory', () => {
  const sizes: MemorySizes = { flowsMax: 100, blocksMax: 3, peersMax: 7, addressesMax: 5 };
  const make = () => FlowMemory.format(new ArrayBuffer(FlowMemory.bytesFor(sizes)), sizes, [11, 12]);

  test('is found again by who opens it, and tells how often it changed hands', () => {
    const memory = make();
    memory.columns.flows.leased[99] = 7;
    const again = FlowMemory.open(memory.buffer);
    expect(again).toMatchObject({ ok: true, value: { sizes, identity: [11, 12], adoptions: 0 } });
    if (!again.ok) return;
    again.value.countAdoption();
    expect([memory.adoptions, again.value.columns.flows.leased[99]]).toEqual([1, 7]);
  });

  test('has columns that do not overlap', () => {
    const columns = Object.values(make().columns).flatMap((group) => Object.values(group));
    const places = columns
      .map((each) => [each.byteOffset, each.byteOffset + each.byteLength])
      .toSorted((a, b) => a[0]! - b[0]!);
    for (const [i, [from]] of places.entries()) expect(from).toBeGreaterThanOrEqual(places[i - 1]?.[1] ?? 64);
  });

  test.each([
    ['no header', (buffer: ArrayBuffer) => buffer.slice(0, 63), 'a flow table of 63 bytes has no header'],
    [
      'nothing in it',
      (buffer: ArrayBuffer) => new ArrayBuffer(buffer.byteLength),
      'it is no flow table, or one that was never finished',
    ],
    [
      'another layout',
      (buffer: ArrayBuffer) => changed(buffer, 1, 99),
      'its layout is version 99, and this is version ',
    ],
    [
      'sizes that cannot be',
      (buffer: ArrayBuffer) => changed(buffer, 2, 0),
      'its header is damaged: 0 flows, 3 blocks, 7 peers, 5 addresses',
    ],
    [
      'sizes far too large',
      (buffer: ArrayBuffer) => changed(buffer, 3, 65_537),
      'its header is damaged: 100 flows, 65537 blocks, 7 peers, 5 addresses',
    ],
    ['less than it says', (buffer: ArrayBuffer) => changed(buffer, 2, 200), /^it is cut off: \d+ of \d+ bytes$/],
  ])('with %s is not read', (_what, change, reason) => {
    const opened = FlowMemory.open(change(make().buffer));
    expect(opened.ok).toBe(false);
    expect(opened.ok ? '' : opened.error).toMatch(reason);
  });

  test.each([
    ['larger', { flowsMax: 2_048, blocksMax: 8, udpPeersMax: 9 }, 4],
    ['smaller, with less room than there are flows', { flowsMax: 2, udpPeersMax: 1 }, 2],
    ['without room for peers', { udpFiltering: 'endpoint_independent' }, 4],
  ] as const)('of another size takes its flows along: %s', (_what, more, flows) => {
    const pond = new Pond([...all, ownBlock], { udpFiltering: 'address_dependent', udpPeersMax: 4, blocksMax: 5 });
    begin(pond);
    outside(pond.send(tcp({ ...client, port: 2 }, origin, 'S')));
    const before = pond.flowsAlone();
    const { left } = pond.moveTo(more, copyMemory);
    expect(left).toBe(4 - flows);
    const after = pond.flowsAlone();
    expect(after).toHaveLength(flows);
    expect(before).toEqual(expect.arrayContaining(after));
    expect(adoption(pond)['flows']).toBe(flows);
    expect(pond.kernel.held.size).toBe(after.filter((flow) => flow.hasPlaceholder).length);
    if (flows === 4) expect(pond.send(udp(dns, { address, port: 9_000 })).verdict).toBe('forward');
  });
});

function changed(buffer: ArrayBuffer, word: number, value: number): ArrayBuffer {
  new Uint32Array(buffer)[word] = value;
  return buffer;
}
