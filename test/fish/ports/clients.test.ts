import { fc, test } from '@fast-check/vitest';
import { describe, expect } from 'vitest';
import { Clients } from '../../../src/fish/ports/clients.ts';
import { ICMP, TCP, TCP6, UDP } from '../../../src/fish/packet/packet.ts';
import { verdictName } from '../../../src/fish/verdicts.ts';
import { block, client, origin, Pond, seeded, shared } from '../../support/fish.ts';
import { echo, tcp, udp, type Endpoint } from '../../support/packets.ts';

const address = '198.51.100.10';
const other: Endpoint = { address: '100.96.0.3', port: 40_000 };
const dns: Endpoint = { address: '203.0.113.1', port: 53 };
const many = [block(address, 'udp', 8_192, 9_215), block(address, 'tcp', 8_192, 9_215), block(address, 'icmp', 0, 255)];
/** How many flows it gets if it asks for so many, each from a port of its own. */
const flowsOf = (pond: Pond, from: Endpoint, count: number, to = origin, protocol: 'tcp' | 'udp' = 'tcp'): number => {
  let had = 0;
  for (let port = 1; port <= count; port++) {
    const source = { ...from, port };
    had += pond.send(protocol === 'tcp' ? tcp(source, to, 'S') : udp(source, to)).verdict === 'forward' ? 1 : 0;
  }
  return had;
};

describe('the table of clients', () => {
  const limits = {
    clientsMax: 6,
    clientPrefix6Bits: 128,
    tcpFlowsPerClientMax: 4,
    udpFlowsPerClientMax: 5,
    icmpFlowsPerClientMax: 6,
    flowsPerSPerClientMax: 1_000_000,
    clientShare: 1,
  };
  const protocols = [TCP, UDP, ICMP, TCP6];
  type Flow = { client: number; protocol: number; leased: number; held: boolean };
  const flow: fc.Arbitrary<Flow> = fc.record({
    client: fc.nat({ max: 8 }),
    protocol: fc.constantFrom(...protocols),
    leased: fc.integer({ min: 1, max: 3 }),
    held: fc.boolean(),
  });

  test.prop([fc.array(fc.record({ flow, adds: fc.boolean() }), { maxLength: 200 }), fc.integer()], { numRuns: 300 })(
    'agrees with a list of flows that is counted from end to end',
    (steps, seed) => {
      const clients = new Clients(limits, { of: (client) => client }, seeded(seed));
      const flows: Flow[] = [];
      const family = (protocol: number) => protocol & 0x80;
      const of = (wanted: number, protocol: number) =>
        flows.filter((each) => each.client === wanted && family(each.protocol) === family(protocol));
      const kind = (protocol: number) => protocol & 0x7f;
      const max: Record<number, number> = { [TCP]: 4, [UDP]: 5, [ICMP]: 6 };
      for (const { flow: wanted, adds } of steps) {
        const at = flows.findIndex((each) => each.client === wanted.client && each.protocol === wanted.protocol);
        if (adds) {
          const verdict = clients.admit(wanted.client, wanted.protocol, 100, 0);
          const own = of(wanted.client, wanted.protocol);
          const ofKind = own.filter((each) => each.protocol === wanted.protocol).length;
          const all = new Set(flows.map((each) => `${each.client} ${family(each.protocol)}`)).size;
          const expected =
            own.length === 0 && all === limits.clientsMax
              ? 'clients_full'
              : ofKind >= max[kind(wanted.protocol)]!
                ? 'client_flows'
                : 'forward';
          expect(verdictName(verdict)).toBe(expected);
          if (verdict !== 0) continue;
          clients.add(wanted.client, wanted.protocol, wanted.leased, wanted.held, 0);
          flows.push(wanted);
        } else if (at >= 0) {
          const [gone] = flows.splice(at, 1);
          clients.remove(gone!.client, gone!.protocol, gone!.held);
        }
        for (const each of [TCP, UDP, TCP6]) {
          const own = of(wanted.client, each);
          expect(clients.flowsOf(wanted.client, each)).toBe(own.filter(({ protocol }) => protocol === each).length);
          expect(clients.placeholdersOf(wanted.client, each)).toBe(own.filter(({ held }) => held).length);
          // Whoever has flows uses a leased address, and who has none does not.
          expect(clients.leasedOf(wanted.client, each) > 0).toBe(own.length > 0);
        }
      }
      expect(clients.count).toBe(new Set(flows.map((each) => `${each.client} ${family(each.protocol)}`)).size);
    },
  );
});

describe('one client', () => {
  test('has no more flows of a protocol than the settings say, however few there are (RFC 6888 REQ-4)', () => {
    const pond = new Pond(many, { tcpFlowsPerClientMax: 3, udpFlowsPerClientMax: 2, icmpFlowsPerClientMax: 1 });
    expect([flowsOf(pond, client, 10), flowsOf(pond, client, 10, dns, 'udp')]).toEqual([3, 2]);
    expect(pond.send(echo(client.address, origin.address, 1)).verdict).toBe('forward');
    expect(pond.send(echo(client.address, origin.address, 2)).verdict).toBe('client_flows');
    expect(flowsOf(pond, other, 3)).toBe(3);
    expect(pond.drops()).toEqual({ client_flows: 7 + 8 + 1 });
    // What it has goes on, and what ends makes room.
    expect(pond.send(tcp({ ...client, port: 1 }, origin, 'S')).verdict).toBe('forward');
    pond.pass(302);
    pond.pass(121);
    expect(flowsOf(pond, client, 10, dns, 'udp')).toBe(2);
  });

  test('begins no more flows a second than the settings say, in bursts of as many', () => {
    const pond = new Pond(many, { flowsPerSPerClientMax: 10 });
    expect(flowsOf(pond, client, 30)).toBe(10);
    expect(flowsOf(pond, other, 10)).toBe(10);
    pond.pass(0.5);
    expect(flowsOf(pond, client, 30, dns)).toBe(5);
    pond.pass(100);
    expect(flowsOf(pond, client, 30, { ...dns, port: 80 })).toBe(10);
    expect(Object.keys(pond.drops())).toEqual(['client_rate']);
    // Packets of flows that are there cost it nothing.
    for (let i = 0; i < 100; i++) expect(pond.send(tcp({ ...client, port: 1 }, origin, 'S')).verdict).toBe('forward');
  });

  test('cannot take the whole flow table, and several have the same each', () => {
    const pond = new Pond(many, { flowsMax: 100 });
    expect(flowsOf(pond, client, 200)).toBe(90);
    expect(pond.drops()).toEqual({ table_share: 110 });
    // There is room for who comes next, who has as good a right to what is left.
    expect(flowsOf(pond, other, 100)).toBe(9);
    const fair = new Pond(many, { flowsMax: 100, clientShare: 0.5 });
    for (let port = 1; port <= 100; port++)
      for (const from of [client, other]) fair.send(tcp({ ...from, port }, origin, 'S'));
    const had = [client, other].map((from) => [...fair.forwarder.flows({ client: from.address as never })].length);
    expect(had.toSorted()).toEqual([33, 34]);
  });

  test('cannot take all ports toward a destination, and has the others', () => {
    const pond = new Pond([block(address, 'tcp', 8_192, 8_223)]);
    expect(flowsOf(pond, client, 100)).toBe(29);
    expect(pond.drops()).toEqual({ port_share: 71 });
    expect(flowsOf(pond, other, 100)).toBeGreaterThan(0);
    // Toward others there are as many again, for the greedy one, too.
    expect(flowsOf(pond, client, 100, dns)).toBe(29);
  });

  test('cannot take all UDP ports, which serve every destination at once', () => {
    const pond = new Pond([block(address, 'udp', 8_192, 8_255)]);
    expect(flowsOf(pond, client, 100, dns, 'udp')).toBe(58);
    expect(pond.drops()).toEqual({ port_share: 42 });
    expect(pond.send(udp(other, dns)).verdict).toBe('forward');
  });

  test('in more ports than a search looks at, is judged by a sample', () => {
    const pond = new Pond([block(address, 'tcp', 8_192, 9_215)], { portProbesMax: 128 });
    const had = flowsOf(pond, client, 1_500);
    expect(had).toBeGreaterThan(850);
    expect(had).toBeLessThan(980);
    expect(flowsOf(pond, other, 5)).toBe(5);
  });

  test('cannot take the whole budget of placeholders, exclusive ports are not affected', () => {
    const pond = new Pond([block(address, 'tcp', 8_192, 8_447, shared())], { placeholdersMax: 50 });
    expect(flowsOf(pond, client, 100)).toBe(45);
    expect(pond.drops()).toEqual({ placeholder_share: 55 });
    expect(flowsOf(pond, other, 1)).toBe(1);
    const both = [block(address, 'tcp', 8_192, 8_447, shared()), block('198.51.100.11', 'tcp', 8_192, 8_447)];
    pond.forwarder.setBlocks(both, 0);
    expect(flowsOf(pond, client, 200)).toBeGreaterThan(150);
  });

  test('with a share of 1 may have all there is', () => {
    const pond = new Pond([block(address, 'tcp', 8_192, 8_223)], { clientShare: 1 });
    expect(flowsOf(pond, client, 100)).toBe(32);
    expect(pond.drops()).toEqual({ no_port: 68 });
  });
});

describe('clients', () => {
  test('beyond their number are refused until another one has no flows any more', () => {
    const pond = new Pond(many, { clientsMax: 1, timers: { udpRestS: 0 } });
    pond.send(udp(client, dns));
    expect(pond.send(udp(other, dns)).verdict).toBe('clients_full');
    expect(pond.forwarder.counters().clients).toBe(1);
    pond.pass(301);
    expect(pond.forwarder.counters().clients).toBe(0);
    expect(pond.send(udp(other, dns)).verdict).toBe('forward');
  });

  test('are counted anew by a successor', () => {
    const pond = new Pond(many, { tcpFlowsPerClientMax: 10 });
    flowsOf(pond, client, 8);
    pond.restart();
    expect(flowsOf(pond, client, 20)).toBe(8 + 2);
    expect(pond.drops()).toEqual({ client_flows: 10 });
  });

  test('more than a successor has room for are not limited, and not mistaken for others', () => {
    const pond = new Pond(many, { timers: { udpRestS: 0 } });
    for (let host = 1; host <= 40; host++) pond.send(udp({ address: `100.96.1.${host}`, port: 9 }, dns));
    pond.restart({ clientsMax: 1, timers: { udpRestS: 0 } });
    expect([...pond.forwarder.flows()]).toHaveLength(40);
    pond.pass(301);
    expect([...pond.forwarder.flows()]).toHaveLength(0);
    expect(pond.forwarder.counters().clients).toBe(0);
  });
});

describe('clients over IPv6', () => {
  const [near, neighbour, far] = ['2001:db8:c::1', '2001:db8:c::2', '2001:db8:c:1::1'].map((each) => ({
    address: each,
    port: 40_000,
  })) as [Endpoint, Endpoint, Endpoint];
  const remote: Endpoint = { address: '2001:db8:f::1', port: 443 };
  const blocks = [
    block('2001:db8:a::10', 'tcp', 8_192, 8_223),
    block('2001:db8:a::11', 'tcp', 8_192, 8_223),
    block('2001:db8:a::10', 'udp', 8_192, 8_255),
  ];
  const settings = { clientPrefixes: ['2001:db8:c::/48' as never] };

  test('are one for each prefix of 64 bits, however many addresses it uses', () => {
    const pond = new Pond(blocks, { ...settings, tcpFlowsPerClientMax: 4 });
    expect([flowsOf(pond, near, 3, remote), flowsOf(pond, neighbour, 3, remote)]).toEqual([3, 1]);
    expect(flowsOf(pond, far, 3, remote)).toBe(3);
    expect(pond.forwarder.counters().clients).toBe(2);
    // One leased address for each of them, too.
    const sources = (from: Endpoint) =>
      new Set([...pond.forwarder.flows({ client: from.address as never })].map((flow) => flow.address));
    expect(new Set([...sources(near), ...sources(neighbour)]).size).toBe(1);
    pond.restart();
    expect(flowsOf(pond, { ...neighbour, port: 1 }, 3, { ...remote, port: 80 })).toBe(0);
  });

  test('share what the ports toward a destination have for one', () => {
    const pond = new Pond(blocks, settings);
    const had = [...Array(64).keys()].map((i) =>
      flowsOf(pond, { ...near, address: `2001:db8:c::${i + 9}` }, 1, remote),
    );
    expect(had.reduce((sum, each) => sum + each, 0)).toBe(58);
    expect(pond.drops()).toEqual({ port_share: 6 });
    expect(flowsOf(pond, far, 1, remote)).toBe(1);
  });

  test.each([
    [128, 3],
    [48, 1],
  ])('are those with one prefix of %i bits when that is wanted', (clientPrefix6Bits, clients) => {
    const pond = new Pond(blocks, { ...settings, clientPrefix6Bits });
    for (const from of [near, neighbour, far]) expect(flowsOf(pond, from, 2, remote)).toBe(2);
    expect(pond.forwarder.counters().clients).toBe(clients);
    pond.pass(241);
    pond.pass(61);
    expect(pond.forwarder.counters().clients).toBe(0);
  });
});
