import { describe, expect, test } from 'vitest';
import { block, client, connect, finish, inside, origin, outside, Pond, shared } from '../support/fish.ts';
import { build, tcp, udp, type Endpoint } from '../support/packets.ts';

const address = '198.51.100.10';
const other: Endpoint = { address: '100.96.0.3', port: 40_000 };
const elsewhere: Endpoint = { address: '203.0.113.2', port: 443 };
const dns: Endpoint = { address: '203.0.113.1', port: 53 };

const states = (pond: Pond) => [...pond.forwarder.flows()].map((flow) => flow.state);

describe('TCP', () => {
  test('serves many destinations from one leased port, in an exclusive block too', () => {
    const pond = new Pond([block(address, 'tcp', 9_000, 9_000)]);
    expect(connect(pond, client, origin)).toEqual({ address, port: 9_000 });
    expect(connect(pond, client, elsewhere)).toEqual({ address, port: 9_000 });
    expect(connect(pond, other, { ...origin, port: 80 })).toEqual({ address, port: 9_000 });
    expect(pond.send(tcp(other, origin, 'S')).verdict).toBe('no_port');
    expect(pond.kernel.opened).toEqual([]);
  });

  test('begins with a SYN and nothing else', () => {
    const pond = new Pond([block(address, 'tcp', 9_000, 9_007)]);
    expect(pond.send(tcp(client, origin, 'A')).verdict).toBe('not_syn');
    expect(pond.send(tcp(client, origin, 'SA')).verdict).toBe('not_syn');
    expect(pond.send(tcp(client, origin, 'RA')).verdict).toBe('not_syn');
    expect(pond.drops()).toEqual({ not_syn: 3 });
    expect(states(pond)).toEqual([]);
  });

  test('rests after the end: the last packets pass, the tuple stays, and then it is free', () => {
    const pond = new Pond([block(address, 'tcp', 9_000, 9_001)]);
    const leased = connect(pond, client, origin);
    finish(pond, client, origin, leased);
    expect(states(pond)).toEqual(['resting']);
    expect(inside(pond.send(tcp(origin, leased, 'FA', { sequence: 501, acknowledgement: 102 })))).toEqual(client);
    expect(outside(pond.send(tcp(client, origin, 'A', { sequence: 102, acknowledgement: 502 })))).toEqual(leased);
    expect(pond.send(tcp(origin, leased, 'S', { sequence: 9 })).verdict).toBe('resting');
    pond.pass(59);
    expect(states(pond)).toEqual(['resting']);
    pond.pass(2);
    expect(states(pond)).toEqual([]);
    expect(pond.send(tcp(origin, leased, 'A')).verdict).toBe('no_flow');
  });

  test('from the same client port anew, while the old one rests, gets another leased port', () => {
    const pond = new Pond([block(address, 'tcp', 9_000, 9_001)]);
    const old = connect(pond, client, origin);
    finish(pond, client, origin, old);
    const fresh = connect(pond, client, origin);
    expect(fresh).not.toEqual(old);
    // What still comes for the old one is not for the new connection.
    expect(pond.send(tcp(origin, old, 'FA', { sequence: 501, acknowledgement: 102 })).verdict).toBe('resting');
    expect(inside(pond.send(tcp(origin, fresh, 'A', { sequence: 501, acknowledgement: 101 })))).toEqual(client);
    finish(pond, client, origin, fresh);
    expect(pond.send(tcp(client, origin, 'S')).verdict).toBe('no_port');
    pond.pass(61);
    expect(pond.send(tcp(client, origin, 'S')).verdict).toBe('forward');
  });

  test('ends by a reset that could be real, and not by one that could not', () => {
    const pond = new Pond([block(address, 'tcp', 9_000, 9_007)]);
    const leased = connect(pond, client, origin);
    expect(pond.send(tcp(origin, leased, 'R', { sequence: 77_777_777 })).verdict).toBe('forward');
    expect(states(pond)).toEqual(['live']);
    expect(pond.forwarder.counters()).toMatchObject({ tcpStrays: 1, flowsEnded: { reset: 0 } });
    expect(pond.send(tcp(origin, leased, 'R', { sequence: 501 })).verdict).toBe('forward');
    expect(states(pond)).toEqual(['resting']);
    expect(pond.forwarder.counters()).toMatchObject({ flowsEnded: { reset: 1 } });
  });

  test('that opens is not kept alive by SYNs from outside, whoever sends them', () => {
    const pond = new Pond([block(address, 'tcp', 9_000, 9_007)]);
    const leased = outside(pond.send(tcp(client, origin, 'S')));
    pond.pass(200);
    expect(pond.send(tcp(origin, leased, 'S', { sequence: 9 })).verdict).toBe('forward');
    pond.pass(39);
    expect(states(pond)).toEqual(['live']);
    pond.pass(2);
    expect(states(pond)).toEqual(['resting']);
  });

  test.each(['inside', 'outside'])('is not kept alive by doubtful resets from %s: the first one counts', (side) => {
    const pond = new Pond([block(address, 'tcp', 9_000, 9_007)]);
    const leased = connect(pond, client, origin);
    const reset = () =>
      side === 'inside'
        ? pond.send(tcp(client, origin, 'R', { sequence: 105 }))
        : pond.send(tcp(origin, leased, 'R', { sequence: 505 }));
    reset();
    pond.pass(200);
    reset();
    expect(pond.forwarder.counters().tcpResetsDoubted).toBe(2);
    pond.pass(39);
    expect(states(pond)).toEqual(['live']);
    pond.pass(2);
    expect(states(pond)).toEqual(['resting']);
  });

  test('lasts 2 hours 4 minutes of silence once established, 4 minutes before, and 4 after both FINs', () => {
    const blocks = [block(address, 'tcp', 9_000, 9_007)];
    const [opening, open, closing, halfClosed] = Array.from({ length: 4 }, () => new Pond(blocks));
    opening!.send(tcp(client, origin, 'S'));
    connect(open!, client, origin);
    for (const pond of [closing!, halfClosed!]) {
      const leased = connect(pond, client, origin);
      pond.send(tcp(client, origin, 'FA', { sequence: 101, acknowledgement: 501 }));
      if (pond === closing) pond.send(tcp(origin, leased, 'FA', { sequence: 501, acknowledgement: 102 }));
    }
    for (const [pond, seconds] of [
      [opening!, 240],
      [open!, 7_440],
      [closing!, 240],
      [halfClosed!, 7_440],
    ] as const) {
      pond.pass(seconds - 1);
      expect(states(pond)).toEqual(['live']);
      pond.pass(2);
      expect(states(pond)).toEqual(['resting']);
      expect(pond.forwarder.counters()).toMatchObject({ flowsEnded: { idle: 1 } });
    }
  });

  test('is not kept alive by what is not in window, and in doubt lasts 4 minutes', () => {
    const pond = new Pond([block(address, 'tcp', 9_000, 9_007)]);
    const leased = connect(pond, client, origin);
    pond.pass(7_000);
    pond.send(tcp(origin, leased, 'A', { sequence: 99_999_999, acknowledgement: 101 }));
    pond.pass(441);
    expect(states(pond)).toEqual(['resting']);

    const doubted = new Pond([block(address, 'tcp', 9_000, 9_007)]);
    const doubtful = tcp(origin, connect(doubted, client, origin), 'R', { sequence: 600 });
    doubted.send(doubtful);
    // The client's challenge (RFC 5961 3.2) shows that it lives.
    doubted.send(tcp(client, origin, 'A', { sequence: 101, acknowledgement: 501 }));
    doubted.pass(241);
    expect(states(doubted)).toEqual(['live']);
    doubted.send(doubtful);
    doubted.pass(241);
    expect(states(doubted)).toEqual(['resting']);
    expect(doubted.forwarder.counters().tcpResetsDoubted).toBe(2);
  });

  test('has timers of its own for opening and for closing (RFC 7857 2.1)', () => {
    const timers = { tcpOpeningS: 20, tcpTransitoryS: 100 };
    const [opening, closing] = [1, 2].map(() => new Pond([block(address, 'tcp', 9_000, 9_007)], { timers }));
    const first = outside(opening!.send(tcp(client, origin, 'S', { sequence: 100 })));
    opening!.pass(15);
    opening!.send(tcp(origin, first, 'SA', { sequence: 500, acknowledgement: 101 }));
    const leased = connect(closing!, client, origin);
    closing!.send(tcp(client, origin, 'FA', { sequence: 101, acknowledgement: 501 }));
    closing!.send(tcp(origin, leased, 'FA', { sequence: 501, acknowledgement: 102 }));
    for (const [pond, seconds] of [
      [opening!, 20],
      [closing!, 100],
    ] as const) {
      pond.pass(seconds - 1);
      expect(states(pond)).toEqual(['live']);
      pond.pass(2);
      expect(states(pond)).toEqual(['resting']);
    }
  });

  test('opens from both sides at once (RFC 5382 REQ-2)', () => {
    const pond = new Pond([block(address, 'tcp', 9_000, 9_007)]);
    const leased = outside(pond.send(tcp(client, origin, 'S', { sequence: 100 })));
    expect(inside(pond.send(tcp(origin, leased, 'S', { sequence: 500 })))).toEqual(client);
    expect(outside(pond.send(tcp(client, origin, 'SA', { sequence: 100, acknowledgement: 501 })))).toEqual(leased);
    expect(inside(pond.send(tcp(origin, leased, 'SA', { sequence: 500, acknowledgement: 101 })))).toEqual(client);
    expect(outside(pond.send(tcp(client, origin, 'A', { sequence: 101, acknowledgement: 501 })))).toEqual(leased);
    pond.pass(7_000);
    expect(states(pond)).toEqual(['live']);
  });

  test('after a reset that was lost behind it still passes what provokes the next (RFC 7857 2.2)', () => {
    const pond = new Pond([block(address, 'tcp', 9_000, 9_007)]);
    const leased = connect(pond, client, origin);
    pond.send(tcp(origin, leased, 'R', { sequence: 501 }));
    pond.pass(59);
    const late = tcp(client, origin, 'PA', { sequence: 101, acknowledgement: 501, data: Uint8Array.of(1) });
    expect(outside(pond.send(late))).toEqual(leased);
    expect(inside(pond.send(tcp(origin, leased, 'R', { sequence: 501 })))).toEqual(client);
    expect(states(pond)).toEqual(['resting']);
  });

  test('is not ended by any ICMP error (RFC 5382 REQ-10, RFC 4787 REQ-12)', () => {
    const pond = new Pond([block(address, 'tcp', 9_000, 9_007), block(address, 'udp', 9_000, 9_007)]);
    const leased = connect(pond, client, origin);
    const mapped = outside(pond.send(udp(client, dns)));
    for (const [type, codes] of [
      [3, 16],
      [11, 2],
      [12, 3],
    ] as const)
      for (let code = 0; code < codes; code++)
        for (const about of [tcp(leased, origin, 'A', { sequence: 101 }), udp(mapped, dns)])
          pond.send({
            ...{ protocol: 'icmp', type, code, identifier: 0, source: '192.0.2.9', destination: address },
            data: build(about),
          });
    expect(states(pond)).toEqual(['live', 'live']);
    expect(pond.forwarder.counters().packetsIn).toBeGreaterThan(20);
    pond.pass(301);
    // Nor kept.
    expect([...pond.forwarder.flows({ state: 'live' })].map(({ protocol }) => protocol)).toEqual(['tcp']);
  });

  test('takes no rest when none is configured', () => {
    const pond = new Pond([block(address, 'tcp', 9_000, 9_000)], { timers: { tcpRestS: 0 } });
    finish(pond, client, origin, connect(pond, client, origin));
    expect(states(pond)).toEqual([]);
    expect(connect(pond, client, origin)).toEqual({ address, port: 9_000 });
  });
});

describe('the rest after a reset (RFC 7857 2.2)', () => {
  const reset = (pond: Pond, from: typeof client, to = origin) => {
    const leased = connect(pond, from, to);
    pond.send(tcp(to, leased, 'R', { sequence: 501 }));
    return leased;
  };
  const clientAt = (port: number) => ({ ...client, port });

  test('lasts for four minutes, and one of no more than any other is what the settings may say', () => {
    const pond = new Pond([block(address, 'tcp', 9_000, 9_007)]);
    const leased = reset(pond, client);
    pond.pass(238);
    const late = tcp(client, origin, 'A', { sequence: 101, acknowledgement: 501 });
    expect(outside(pond.send(late))).toEqual(leased);
    expect(inside(pond.send(tcp(origin, leased, 'R', { sequence: 501 })))).toEqual(client);
    pond.pass(3);
    expect(states(pond)).toEqual([]);
    const short = new Pond([block(address, 'tcp', 9_000, 9_007)], { timers: { tcpRestS: 10, tcpResetRestS: 10 } });
    reset(short, client);
    short.pass(11);
    expect(states(short)).toEqual([]);
    const none = new Pond([block(address, 'tcp', 9_000, 9_007)], { timers: { tcpRestS: 0 } });
    reset(none, client);
    expect(states(none)).toEqual(['resting']);
    none.pass(241);
    expect(states(none)).toEqual([]);
  });

  test.each(['exclusive', 'shared'] as const)(
    'yields its port to whoever has none else, in a block that is %s',
    (mode) => {
      const pond = new Pond([block(address, 'tcp', 9_000, 9_001, mode === 'shared' ? shared() : {})]);
      const first = reset(pond, clientAt(1));
      pond.pass(30);
      reset(pond, clientAt(2));
      // Not before it has rested as others do, nor while another port is free.
      expect(pond.send(tcp(clientAt(3), origin, 'S')).verdict).toBe('no_port');
      pond.pass(31);
      const opened = pond.kernel.opened.length;
      expect(connect(pond, clientAt(3), origin)).toEqual(first);
      expect(pond.kernel.opened).toHaveLength(opened);
      expect(pond.kernel.held.size).toBe(mode === 'shared' ? 2 : 0);
      expect(pond.send(tcp(clientAt(4), origin, 'S')).verdict).toMatch('no_port');
      expect(pond.forwarder.portUse()).toMatchObject({ protocols: [{ busiest: 2 }], leases: [{ flows: 2 }] });
      // What comes late is for whoever has the port now.
      expect(inside(pond.send(tcp(origin, first, 'A', { sequence: 501, acknowledgement: 101 })))).toEqual(clientAt(3));
      pond.pass(8_000);
      pond.pass(100);
      pond.pass(241);
      expect([states(pond), pond.kernel.held.size]).toEqual([[], 0]);
    },
  );

  test('takes of rows, placeholders, ports and shares nothing that anybody needs, however many resets there are', () => {
    const pond = new Pond([block(address, 'tcp', 9_024, 9_087, shared())], {
      flowsMax: 64,
      placeholdersMax: 48,
      tcpFlowsPerClientMax: 40,
    });
    for (let round = 0; round < 20; round++) {
      for (let port = 1; port <= 20; port++) reset(pond, clientAt(round * 100 + port));
      pond.pass(61);
    }
    expect(pond.drops()).toEqual({});
    // As many as there are, beside those that live.
    expect(states(pond)).toHaveLength(48);
    for (let port = 1; port <= 30; port++) connect(pond, clientAt(port), { ...origin, port });
    expect(states(pond).filter((state) => state === 'live')).toHaveLength(30);
    expect(pond.kernel.held.size).toBe(48);
    expect(pond.forwarder.counters()).toMatchObject({ placeholdersHeld: 48, clients: 1 });
    pond.pass(241);
    expect(states(pond)).toHaveLength(30);
  });

  test('is that of a mapped port, too, which may be another’s by then', () => {
    const pond = new Pond([block(address, 'tcp', 9_000, 9_000)], { tcpMapping: 'endpoint_independent' });
    const leased = reset(pond, clientAt(1));
    pond.pass(61);
    // The client itself has it again, and so has somebody else.
    expect(connect(pond, clientAt(1), origin)).toEqual(leased);
    pond.send(tcp(origin, leased, 'R', { sequence: 501 }));
    pond.pass(61);
    expect(connect(pond, clientAt(2), { ...origin, port: 1 })).toEqual(leased);
    expect(pond.send(tcp(clientAt(1), origin, 'S')).verdict).toBe('no_port');
    expect(inside(pond.send(tcp(origin, leased, 'S', { sequence: 9 })))).toEqual(clientAt(2));
    expect(connect(pond, clientAt(2), { ...origin, port: 2 })).toEqual(leased);
  });

  test('is known to a successor for as long as it was to last', () => {
    const pond = new Pond([block(address, 'tcp', 9_000, 9_000)]);
    reset(pond, clientAt(1));
    pond.pass(61);
    pond.restart();
    expect(pond.send(tcp(clientAt(2), origin, 'S')).verdict).toBe('no_port');
    pond.pass(180);
    expect(states(pond)).toEqual([]);
  });
});
