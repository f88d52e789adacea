import { fc, test } from '@fast-check/vitest';
import { describe, expect } from 'vitest';
import { copyMemory } from '../../src/fish/flows/flow-copy.ts';
import { dropReasons } from '../../src/fish/verdicts.ts';
import type { Prefix } from '../../src/net/prefix.ts';
import { block, client, client6, connect, origin, origin6, Pond, shared } from '../support/fish.ts';
import { translated } from '../support/naive-nat.ts';
import {
  build,
  checksumProblem,
  echo,
  hexOf,
  read,
  tcp,
  udp,
  type Endpoint,
  type PacketFields,
} from '../support/packets.ts';
import type { Extension } from '../support/packets6.ts';

const address = '2001:db8:d::10';
const other: Endpoint = { address: '2001:db8:c::3', port: 40_000 };
const blocks = (['tcp', 'udp', 'icmp'] as const).map((protocol) => block(address, protocol, 8_192, 9_215));

const hopByHop: Extension = { type: 0, body: [5, 2, 0, 0] };
const forDestination: Extension = { type: 60, body: [1, 12] };
const usedUp: Extension = { type: 43, body: [4, 0, 0, 0, 0, 0] };
/** The header of a fragment, which is the whole packet where offset and more are 0. */
const cut = (offset: number, more = 0): Extension => ({
  type: 44,
  body: [(offset >>> 8) & 255, (offset & 0xf8) | more],
});
const chains: Record<string, readonly Extension[]> = {
  'no extension header': [],
  'hop-by-hop options': [hopByHop],
  'destination options of 24 bytes': [
    { type: 60, body: [1, 20] },
    { type: 60, body: new Array<number>(22).fill(0) },
  ],
  'a routing header that is used up': [usedUp],
  'a fragment header of a whole packet': [cut(0)],
  'all of them': [hopByHop, forDestination, usedUp, cut(0), forDestination],
};
const data = Uint8Array.from({ length: 33 }, (_, i) => i * 7);
const packets: Record<string, PacketFields> = {
  tcp: tcp(client6, origin6, 'S', { tcpOptions: [2, 4, 5, 160, 1, 3, 3, 7], data }),
  udp: udp(client6, origin6, { data }),
  echo: { ...echo(client6.address, origin6.address, 7), data },
};
/** The answer to one of those. */
function answerTo(sent: PacketFields, leased: Endpoint): PacketFields {
  if (sent.protocol === 'tcp')
    return tcp(origin6, leased, 'SA', { sequence: 9, acknowledgement: 1 + data.length, data });
  if (sent.protocol === 'udp') return udp(origin6, leased, { data });
  return { ...echo(origin6.address, leased.address, leased.port, 0), data };
}
const sourceOf = (bytes: Uint8Array): Endpoint => {
  const { source, sourcePort } = read(bytes);
  return { address: source, port: sourcePort };
};

describe.each(Object.entries(packets))('%s over IPv6', (_name, packet) => {
  test.each(Object.entries(chains))('is translated there and back, with %s', (_what, extensions) => {
    for (const partial of [false, true]) {
      // Flag NEEDS_CSUM, and where: the kernel's fields are in its own byte order.
      const header = new Uint8Array(10);
      const [at, field] = [
        40 + extensions.reduce((sum, { body = [] }) => sum + Math.max(8, Math.ceil((body.length + 2) / 8) * 8), 0),
        { tcp: 16, udp: 6, icmp: 2 }[packet.protocol],
      ];
      if (partial) header.set([1, 0, 0, 0, 0, 0, at & 255, at >>> 8, field, 0]);
      const pond = new Pond(blocks, { vnetHeaderBytes: 10 });
      const out = build({ ...packet, extensions, service: 0xb9, label: 0xabcde, ttl: 9 }, partial);
      const sent = pond.send(out, header);
      expect(sent.verdict).toBe('forward');
      const leased = sourceOf(sent.bytes);
      expect(leased.address).toBe(address);
      expect(hexOf(sent.bytes)).toBe(hexOf(translated(out, 'source', leased, partial)));
      const back = build({ ...answerTo(packet, leased), extensions }, partial);
      const received = pond.send(back, header);
      expect(received.verdict).toBe('forward');
      const port = packet.protocol === 'icmp' ? packet.identifier : packet.sourcePort;
      expect(hexOf(received.bytes)).toBe(
        hexOf(translated(back, 'destination', { address: client6.address, port }, partial)),
      );
      if (!partial)
        expect([checksumProblem(sent.bytes), checksumProblem(received.bytes)]).toEqual([undefined, undefined]);
    }
  });

  test('is dropped at every length that is not its own', () => {
    const whole = build({ ...packet, extensions: [hopByHop, cut(0)] });
    const pond = new Pond(blocks);
    for (let length = 0; length < whole.length; length++) {
      expect(pond.send(whole.slice(0, length)).verdict).toBe('truncated');
      if (length <= 40) continue;
      // The same with a length that claims no more than there is.
      const honest = whole.slice(0, length);
      honest.set([0, length - 40], 4);
      const { verdict, bytes } = pond.send(honest);
      if (verdict === 'forward') expect(checksumProblem(bytes)).toBe(checksumProblem(honest));
      else expect(['truncated', 'bad_length']).toContain(verdict);
    }
    expect(new Pond(blocks).send(Uint8Array.from([...whole, 0, 0])).verdict).toBe('forward');
  });
});

describe('an IPv6 packet is dropped for', () => {
  const syn = packets['tcp']!;
  const datagram = packets['udp']!;
  const changed = (packet: PacketFields, at: number, ...values: number[]): Uint8Array => {
    const bytes = build(packet);
    bytes.set(values, at);
    return bytes;
  };
  const withType = (type: number) => build({ ...echo(client6.address, origin6.address, 7), type });
  const many = (count: number): readonly Extension[] => Array.from({ length: count }, () => forDestination);
  test.each<[string, Uint8Array, string]>([
    ['a length of 0, as jumbograms have it', changed(syn, 4, 0, 0), 'bad_length'],
    ['a length beyond the end', changed(syn, 4, 1, 0), 'truncated'],
    [
      'hop-by-hop options that come second',
      build({ ...syn, extensions: [forDestination, hopByHop] }),
      'bad_extension_headers',
    ],
    ['nine extension headers', build({ ...syn, extensions: many(9) }), 'bad_extension_headers'],
    ['two fragment headers', build({ ...syn, extensions: [cut(0), cut(0)] }), 'bad_extension_headers'],
    [
      'an extension header that ends behind the packet',
      changed({ ...syn, extensions: [hopByHop] }, 41, 255),
      'truncated',
    ],
    [
      'a routing header of type 0, even one that is used up',
      build({ ...syn, extensions: [{ type: 43, body: [0, 0] }] }),
      'routing_header',
    ],
    ['a routing header that leads on', build({ ...syn, extensions: [{ type: 43, body: [4, 1] }] }), 'routing_header'],
    ['authentication, which covers the addresses', changed(syn, 6, 51), 'protocol_unsupported'],
    ['encryption', changed(syn, 6, 50), 'protocol_unsupported'],
    ['no next header', changed(syn, 6, 59), 'protocol_unsupported'],
    ['ICMP of IPv4', changed(syn, 6, 1), 'protocol_unsupported'],
    ['a protocol number that fish uses for itself', changed(syn, 6, 0x86), 'protocol_unsupported'],
    ['UDP without a checksum', changed(datagram, 46, 0, 0), 'udp_without_checksum'],
    ['a neighbour solicitation', withType(135), 'icmp_type_unsupported'],
    ['a router advertisement', withType(134), 'icmp_type_unsupported'],
    ['a multicast listener report', withType(143), 'icmp_type_unsupported'],
    ['an unknown error', withType(100), 'icmp_error_unusable'],
    ['type 0, which nobody has', withType(0), 'icmp_error_unusable'],
    ['a wrong TCP header', changed(syn, 40 + 12, 0x40), 'bad_length'],
    ['a wrong UDP length', changed(datagram, 44, 0, 200), 'bad_length'],
    ['port 0', build(udp({ ...client6, port: 0 }, origin6)), 'port_zero'],
    ['an unspecified source', build(udp({ ...client6, address: '::' }, origin6)), 'source_not_allowed'],
    [
      'a source of nobody’s network',
      build(udp({ ...client6, address: '2001:db8:bad::1' }, origin6)),
      'source_not_allowed',
    ],
    ['a source that is leased', build(udp({ ...client6, address }, origin6)), 'spoofed_source'],
    ['all nodes', build(udp(client6, { ...origin6, address: 'ff02::1' })), 'bad_destination'],
    ['a link-local destination', build(udp(client6, { ...origin6, address: 'fe80::1' })), 'bad_destination'],
    ['the host itself', build(udp(client6, { ...origin6, address: '::1' })), 'bad_destination'],
    [
      'an IPv4 address in disguise',
      build(udp(client6, { ...origin6, address: '::ffff:cb00:7101' })),
      'bad_destination',
    ],
  ])('%s', (_what, bytes, verdict) => {
    const pond = new Pond(blocks);
    const sent = pond.send(bytes);
    expect(sent.verdict).toBe(verdict);
    expect(hexOf(sent.bytes)).toBe(hexOf(bytes));
    expect(pond.drops()).toEqual({ [verdict]: 1 });
  });

  test('an IPv4 protocol number that fish uses for itself means nothing either', () => {
    const bytes = build(tcp(client, origin, 'S'));
    bytes[9] = 0x86;
    // The header checksum, as much less as the number is more.
    const sum = ((bytes[10]! << 8) | bytes[11]!) - 0x80;
    bytes.set([sum >>> 8, sum & 255], 10);
    expect(new Pond([block('198.51.100.10', 'tcp', 9_000, 9_000)]).send(bytes).verdict).toBe('protocol_unsupported');
  });

  const headed = fc.tuple(
    fc.constantFrom(...Object.values(packets)),
    fc.constantFrom(...Object.values(chains)),
    fc.array(fc.tuple(fc.nat({ max: 120 }), fc.nat({ max: 255 })), { maxLength: 5 }),
  );
  test.prop([fc.array(headed, { minLength: 1, maxLength: 20 })], { numRuns: 500 })(
    'whatever is wrong with it, or is translated without its checksum being mended',
    (sent) => {
      const pond = new Pond(blocks);
      for (const [packet, extensions, edits] of sent) {
        const before = build({ ...packet, extensions });
        for (const [at, value] of edits) before[at % before.length] = value;
        const { verdict, bytes } = pond.send(before);
        expect(['forward', 'held', ...dropReasons]).toContain(verdict);
        if (verdict !== 'forward') expect(hexOf(bytes)).toBe(hexOf(before));
        else expect(checksumProblem(bytes)).toBe(checksumProblem(before));
      }
    },
  );
});

describe('the two families', () => {
  test('share nothing but the table: the same ports, toward each its own', () => {
    const pond = new Pond([block(address, 'udp', 9_000, 9_000), block('198.51.100.10', 'udp', 9_000, 9_000)]);
    expect(sourceOf(pond.send(udp(client, origin)).bytes)).toEqual({ address: '198.51.100.10', port: 9_000 });
    expect(sourceOf(pond.send(udp(client6, origin6)).bytes)).toEqual({ address, port: 9_000 });
    expect(pond.send(udp(origin6, { address, port: 9_000 })).bytes).toBeDefined();
    expect([...pond.forwarder.flows()].map((flow) => [flow.client, flow.address]).toSorted()).toEqual([
      [client.address, '198.51.100.10'],
      [client6.address, address],
    ]);
    expect([...pond.forwarder.flows({ client: client6.address as never })]).toHaveLength(1);
  });

  test('need each their own lease', () => {
    const pond = new Pond([block('198.51.100.10', 'tcp', 9_000, 9_007)]);
    expect(pond.send(packets['tcp']!).verdict).toBe('no_lease');
    expect(pond.send(tcp(client, origin, 'S')).verdict).toBe('forward');
  });

  test('without an IPv6 client there is neither room nor use for IPv6', () => {
    const pond = new Pond([block('198.51.100.10', 'udp', 9_000, 9_000)], {
      clientPrefixes: ['100.64.0.0/10'] as Prefix[],
    });
    expect(pond.memory.sizes.addressesMax).toBe(0);
    expect(pond.send(packets['udp']!).verdict).toBe('source_not_allowed');
    expect(pond.forwarder.setBlocks(blocks, 0).refused[0]?.reason).toBe('no client prefix is one of IPv6');
  });

  test('overlapping blocks are told apart by family and address', () => {
    const pond = new Pond([]);
    const { refused } = pond.forwarder.setBlocks(
      [...blocks, block(address, 'tcp', 9_000, 9_007), block('2001:db8:d::11', 'tcp', 9_000, 9_007)],
      0,
    );
    expect(refused.map(({ reason }) => reason)).toEqual(['it overlaps 8192-9215 of tcp-8192']);
  });
});

describe('the addresses of IPv6', () => {
  const few = { ipv6AddressesMax: 4, timers: { udpRestS: 0 } } as const;

  test('are as many as there is room for, until their flows have ended', () => {
    const pond = new Pond([block(address, 'icmp', 9_000, 9_007)], few);
    const ping = (last: number) => pond.send(echo(client6.address, `2001:db8:e::${last}`, 7)).verdict;
    expect([ping(1), ping(2), ping(3)]).toEqual(['forward', 'forward', 'addresses_full']);
    // Known ones are no new ones; nothing is left behind by what was refused.
    expect(pond.send(echo(other.address, '2001:db8:e::1', 7)).verdict).toBe('addresses_full');
    expect(pond.send(echo(client6.address, '2001:db8:e::1', 8)).verdict).toBe('forward');
    pond.pass(61);
    expect([...pond.forwarder.flows()]).toEqual([]);
    expect([ping(3), ping(4), ping(5)]).toEqual(['forward', 'forward', 'addresses_full']);
  });

  test('of peers are remembered with them, and forgotten with their flow', () => {
    const pond = new Pond([block(address, 'udp', 9_000, 9_000)], { ...few, udpFiltering: 'address_dependent' });
    const send = (last: number) => pond.send(udp(client6, { address: `2001:db8:e::${last}`, port: 53 })).verdict;
    const answer = (last: number) =>
      pond.send(udp({ address: `2001:db8:e::${last}`, port: 99 }, { address, port: 9_000 })).verdict;
    expect([send(1), send(2), send(3), send(1)]).toEqual(['forward', 'forward', 'addresses_full', 'forward']);
    expect([answer(1), answer(2), answer(3)]).toEqual(['forward', 'forward', 'filtered']);
    pond.restart();
    expect([answer(1), answer(2), answer(3), send(3)]).toEqual(['forward', 'forward', 'filtered', 'addresses_full']);
    pond.pass(301);
    expect([send(3), answer(3), send(4)]).toEqual(['forward', 'forward', 'forward']);
  });

  test('are yielded by who rests after a reset, and not lost to who calls it by its mapped port then', () => {
    const callers = [1, 2].map((last) => ({ address: `2001:db8:e::${last}`, port: 443 }));
    const pond = new Pond([block(address, 'tcp', 9_000, 9_000)], {
      ...few,
      tcpMapping: 'endpoint_independent',
      tcpFiltering: 'endpoint_independent',
    });
    for (const caller of callers) connect(pond, client6, caller);
    const leased = { address, port: 9_000 };
    const [, second] = callers as [Endpoint, Endpoint];
    pond.send(tcp(second, leased, 'R', { sequence: 501 }));
    pond.pass(61);
    // Nobody else knows the caller's address.
    expect(pond.send(tcp(second, leased, 'S', { sequence: 900 })).verdict).toBe('forward');
    pond.send(tcp(client6, second, 'SA', { sequence: 300, acknowledgement: 901 }));
    expect([...pond.forwarder.flows()].map(({ remote, state }) => `${remote} ${state}`).toSorted()).toEqual(
      callers.map((caller) => `${caller.address} live`),
    );
    pond.send(tcp(second, leased, 'R', { sequence: 901 }));
    pond.pass(61);
    expect(connect(pond, client6, { address: '2001:db8:e::3', port: 443 })).toEqual(leased);
    expect([...pond.forwarder.flows()].map(({ remote }) => remote).toSorted()).toEqual([
      callers[0]!.address,
      '2001:db8:e::3',
    ]);
  });

  test('are the successor’s, too, and those of no flow are free', () => {
    const pond = new Pond([block(address, 'tcp', 9_000, 9_007, shared())], few);
    const leased = sourceOf(pond.send(packets['tcp']!).bytes);
    pond.restart();
    expect(pond.forwarder.counters()).toMatchObject({ adoption: { flows: 1, damaged: 0 }, placeholdersHeld: 1 });
    expect([...pond.kernel.held.values()]).toEqual([`${address}:${leased.port} ${origin6.address}:443`]);
    expect(pond.send(answerTo(packets['tcp']!, leased)).verdict).toBe('forward');
    expect(pond.send(tcp(client6, { address: '2001:db8:e::9', port: 1 }, 'S')).verdict).toBe('forward');
    expect(pond.send(tcp(client6, { address: '2001:db8:e::8', port: 1 }, 'S')).verdict).toBe('addresses_full');
  });

  test.each<[string, (pond: Pond, row: number) => void, object]>([
    ['a number beyond the book', ({ memory }, row) => (memory.columns.flows.client[row] = 99), { damaged: 1 }],
    ['no number', ({ memory }, row) => (memory.columns.flows.remote[row] = 0), { damaged: 1 }],
    [
      'a multicast address',
      ({ memory }, row) => (memory.columns.addresses.words[memory.columns.flows.remote[row]! * 4] = 0xff02_0000),
      { damaged: 1 },
    ],
    [
      'a client of nobody’s network',
      ({ memory }, row) => (memory.columns.addresses.words[memory.columns.flows.client[row]! * 4 + 1] = 0xbad_0000),
      { not_allowed: 1 },
    ],
    [
      'an address that another row has',
      ({ memory }, row) => {
        const { words } = memory.columns.addresses;
        words.copyWithin(
          memory.columns.flows.remote[row]! * 4,
          memory.columns.flows.client[row]! * 4,
          memory.columns.flows.client[row]! * 4 + 4,
        );
      },
      { damaged: 1 },
    ],
    [
      'a leased address that is another by now',
      ({ memory }) => (memory.columns.addresses.words[memory.columns.blocks.address[0]! * 4 + 3] = 0x77),
      { without_placeholder: 1 },
    ],
  ])('with %s are not believed', (_what, damage, counts) => {
    const pond = new Pond([block(address, 'tcp', 9_000, 9_007, shared())]);
    pond.send(packets['tcp']!);
    const row = pond.memory.columns.flows.state.findIndex((state) => state !== 0);
    damage(pond, row);
    // What a kernel holds for the old address is a stranger's to the new one.
    if ('without_placeholder' in counts) pond.kernel.failure = 98;
    pond.restart();
    const { adoption } = pond.forwarder.counters();
    expect(
      Object.fromEntries(
        Object.entries(adoption).filter(([name, count]) => count > 0 && !name.startsWith('placeholders')),
      ),
    ).toEqual(counts);
  });

  test.each([
    ['larger', { ipv6AddressesMax: 64, flowsMax: 2_048 }, 3],
    ['smaller, with room for two of three', { ipv6AddressesMax: 4 }, 2],
    ['none', { clientPrefixes: ['100.64.0.0/10'] as Prefix[] }, 0],
  ] as const)('go along into a memory of another size: %s', (_what, more, kept) => {
    const pond = new Pond([block(address, 'tcp', 9_000, 9_007, shared()), block(address, 'udp', 9_000, 9_000)], {
      ipv6AddressesMax: 16,
      udpFiltering: 'address_dependent',
    });
    pond.send(udp(client6, origin6));
    pond.send(tcp(client6, origin6, 'S'));
    pond.send(tcp(other, { ...origin6, address: '2001:db8:e::5' }, 'S'));
    const before = pond.flowsAlone();
    pond.moveTo(more, copyMemory);
    const after = pond.flowsAlone();
    expect(after).toHaveLength(kept);
    expect(before).toEqual(expect.arrayContaining(after));
    expect(pond.kernel.held.size).toBe(after.filter((flow) => flow.hasPlaceholder).length);
    if (kept === 3) expect(pond.send(udp({ ...origin6, port: 5 }, { address, port: 9_000 })).verdict).toBe('forward');
  });
});

describe('the flow log', () => {
  test('tells IPv6 flows that last and that ended, for as long as it has them', () => {
    const pond = new Pond([block(address, 'tcp', 9_000, 9_000), block(address, 'icmp', 9_000, 9_000)], {
      flowLogMax: 2,
    });
    const ask = (at: number, remote: string | null, protocol: 'tcp' | 'icmp' = 'icmp') =>
      pond.forwarder.whoHad(
        {
          protocol,
          address: address as never,
          port: 9_000,
          remote: remote as never,
          remotePort: null,
          at: pond.at(at),
        },
        pond.nowMs,
        10,
      );
    for (const last of [1, 2, 3]) {
      pond.send(echo(client6.address, `2001:db8:e::${last}`, 7));
      pond.pass(61);
    }
    pond.send(packets['tcp']!);
    const found = { client: client6.address, address, remote: '2001:db8:e::3', ending: 'idle' };
    expect(ask(125, '2001:db8:e::3')).toMatchObject({ verdict: 'match', matches: [found] });
    expect(ask(125, null)).toMatchObject({ verdict: 'match', matches: [found] });
    expect(ask(125, '2001:db8:e::1').verdict).toBe('not_mine');
    expect(ask(5, '2001:db8:e::1').verdict).toBe('not_covered');
    expect(ask(183, origin6.address, 'tcp')).toMatchObject({ matches: [{ remote: origin6.address, closedAt: null }] });
    expect(ask(183, '2001:db8:e::77', 'tcp').verdict).toBe('not_mine');
  });
});

describe('a client that gets no port', () => {
  test('is told by ICMPv6, from the host’s address', () => {
    const pond = new Pond([block(address, 'tcp', 9_000, 9_000)], {
      icmpSource6: 'fd00::1' as never,
      vnetHeaderBytes: 10,
    });
    pond.send(packets['tcp']!);
    const refused = pond.send({ ...packets['tcp']!, sourcePort: 3 } as PacketFields);
    expect(refused.verdict).toBe('no_port');
    const reply = pond.reply()!;
    expect(read(reply)).toMatchObject({ protocol: 58, source: 'fd00::1', destination: client6.address, ttl: 64 });
    expect([...reply.subarray(40, 42)]).toEqual([1, 1]);
    expect(hexOf(reply.subarray(48))).toBe(hexOf(refused.bytes));
    expect(checksumProblem(reply)).toBeUndefined();
    // As much as fits, of a long one.
    pond.send({ ...packets['tcp']!, sourcePort: 4, data: new Uint8Array(3_000) } as PacketFields);
    expect(pond.reply()).toHaveLength(1_280);
    expect(checksumProblem(pond.reply()!)).toBeUndefined();
    // Instead, if so wished, by a reset from the remote.
    const resetting = new Pond([block(address, 'udp', 9_000, 9_000)], { refuseTcpWith: 'rst', vnetHeaderBytes: 10 });
    resetting.send({ ...packets['tcp']!, sequence: 100 } as PacketFields);
    const reset = resetting.reply()!;
    expect(hexOf(reset)).toBe(
      hexOf(build(tcp(origin6, client6, 'RA', { acknowledgement: 101 + data.length, window: 0, ttl: 64 }))),
    );
    // An IPv4 client has no address to be told from.
    expect(pond.send(tcp(client, origin, 'S')).verdict).toBe('no_lease');
    expect(pond.reply()).toBeUndefined();
  });
});
