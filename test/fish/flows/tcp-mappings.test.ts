import { describe, expect, test } from 'vitest';
import { block, client, connect, finish, inside, origin, outside, Pond, shared } from '../../support/fish.ts';
import { build, read, tcp, type Endpoint } from '../../support/packets.ts';

const address = '198.51.100.10';
const own = [block(address, 'tcp', 9_000, 9_007)];
const other: Endpoint = { address: '100.96.0.3', port: 40_000 };
const samePlace: Endpoint = { ...origin, port: 80 };
const elsewhere: Endpoint = { address: '203.0.113.2', port: 443 };
const independent = { tcpMapping: 'endpoint_independent' } as const;

const states = (pond: Pond) => [...pond.forwarder.flows()].map(({ state }) => state);
const ports = (pond: Pond) => new Set([...pond.forwarder.flows()].map(({ port }) => port)).size;
const syn = (from: Endpoint, to: Endpoint, sequence = 100) => tcp(from, to, 'S', { sequence });

/** A connection that the remote begins, from its SYN to its ACK. */
function call(pond: Pond, from: Endpoint, to: Endpoint, whom: Endpoint = client): void {
  expect(inside(pond.send(syn(from, to, 700)))).toEqual(whom);
  expect(outside(pond.send(tcp(whom, from, 'SA', { sequence: 300, acknowledgement: 701 })))).toEqual(to);
  expect(inside(pond.send(tcp(from, to, 'A', { sequence: 701, acknowledgement: 301 })))).toEqual(whom);
}

describe('a TCP mapping', () => {
  test.each([
    ['endpoint_independent', 1],
    ['address_dependent', 2],
    ['address_and_port_dependent', 3],
  ] as const)('that is %s is reused toward just those remotes (RFC 5382 REQ-1)', (tcpMapping, used) => {
    const pond = new Pond([block(address, 'tcp', 8_960, 9_087)], { tcpMapping });
    for (const remote of [origin, samePlace, elsewhere]) connect(pond, client, remote);
    // A port that depends on the remote is drawn anew each time, and may be drawn again.
    if (used < 3) expect(ports(pond)).toBe(used);
    expect(pond.forwarder.portUse().protocols[0]).toMatchObject({ busiest: 1 });
    for (const [i, remote] of [origin, samePlace, elsewhere].entries())
      for (const port of [1, 2, 3]) connect(pond, { ...other, port: port * 10 + i }, remote);
    expect(states(pond)).toHaveLength(12);
  });

  test('has its port for itself, and so many client ports get one, no more', () => {
    const pond = new Pond([block(address, 'tcp', 9_000, 9_001)], { ...independent, clientShare: 1 });
    const [first, second] = [connect(pond, client, origin), connect(pond, other, elsewhere)];
    expect(first.port).not.toBe(second.port);
    const third = { ...other, port: 1 };
    expect(pond.send(syn(third, { ...elsewhere, port: 1 })).verdict).toBe('no_port');
    expect(connect(pond, client, elsewhere)).toEqual(first);
    expect(connect(pond, other, origin)).toEqual(second);
    expect(pond.forwarder.portUse().protocols[0]).toMatchObject({ busiest: 2, ports: 2, refused: 1 });
    // Only when the last flow of a mapping has rested is its port somebody else's.
    finish(pond, client, origin, first);
    pond.pass(61);
    expect(pond.send(syn(third, origin)).verdict).toBe('no_port');
    finish(pond, client, elsewhere, first);
    pond.pass(61);
    expect(outside(pond.send(syn(third, origin)))).toEqual(first);
  });

  test('leaves one client no more than its share of the ports, however many flows each port has', () => {
    const pond = new Pond([block(address, 'tcp', 9_000, 9_003)], { ...independent, clientShare: 0.5 });
    const mapped = (port: number) => pond.send(syn({ ...client, port }, origin)).verdict;
    expect([1, 2, 3].map(mapped)).toEqual(['forward', 'forward', 'port_share']);
    for (let port = 1; port < 20; port++) connect(pond, { ...client, port: 1 }, { ...elsewhere, port });
    expect(mapped(3)).toBe('port_share');
    expect(pond.send(syn(other, origin)).verdict).toBe('forward');
  });

  test('is not changed by the end of a connection: who connects there once more comes from the same port', () => {
    const pond = new Pond(own, independent);
    const leased = connect(pond, client, origin);
    finish(pond, client, origin, leased);
    expect(states(pond)).toEqual(['resting']);
    expect(connect(pond, client, origin)).toEqual(leased);
    expect(states(pond)).toEqual(['live']);
    expect(pond.forwarder.counters()).toMatchObject({ flowsOpened: 2, flowsLive: 1, flowsEnded: { finished: 1 } });
    pond.pass(7_000);
    expect(states(pond)).toEqual(['live']);
  });

  test('goes on in a lease that drains, and other ports get none of it', () => {
    const pond = new Pond(own, independent);
    const leased = connect(pond, client, origin);
    pond.forwarder.drain(['tcp-9000']);
    expect(connect(pond, client, elsewhere)).toEqual(leased);
    expect(pond.send(syn(other, origin)).verdict).toBe('no_lease');
  });

  test('is made anew by a successor, of flows that rest, too', () => {
    const pond = new Pond(own, independent);
    const leased = connect(pond, client, origin);
    finish(pond, client, origin, leased);
    pond.restart();
    expect(connect(pond, client, elsewhere)).toEqual(leased);
    call(pond, samePlace, leased);
  });

  test('is nobody’s where a former setting gave the port to several: their connections go on, and nothing joins them', () => {
    const pond = new Pond([block(address, 'tcp', 9_000, 9_000)]);
    const leased = connect(pond, client, origin);
    connect(pond, other, elsewhere);
    pond.restart(independent);
    for (const [who, remote] of [
      [client, origin],
      [other, elsewhere],
    ] as const) {
      expect(outside(pond.send(tcp(who, remote, 'A', { sequence: 101, acknowledgement: 501 })))).toEqual(leased);
      expect(inside(pond.send(tcp(remote, leased, 'A', { sequence: 501, acknowledgement: 101 })))).toEqual(who);
    }
    expect(pond.send(syn(client, samePlace)).verdict).toBe('no_port');
    expect(pond.send(syn(samePlace, leased)).verdict).toBe('filtered');
  });
});

describe('a TCP mapping in a shared block', () => {
  const ours = [block(address, 'tcp', 9_000, 9_007, shared())];

  test('is held toward each remote by a placeholder of its own', () => {
    const pond = new Pond(ours, independent);
    const leased = connect(pond, client, origin);
    expect(connect(pond, client, elsewhere)).toEqual(leased);
    expect([...pond.kernel.held.values()]).toEqual([
      `${address}:${leased.port} 203.0.113.1:443`,
      `${address}:${leased.port} 203.0.113.2:443`,
    ]);
    // And kept by it when the client connects once more.
    finish(pond, client, origin, leased);
    expect(connect(pond, client, origin)).toEqual(leased);
    expect(pond.kernel.opened).toHaveLength(2);
  });

  test('gives way to another port toward a remote that somebody’s socket has there, and is not changed by that', () => {
    const pond = new Pond(ours, independent);
    const leased = connect(pond, client, origin);
    pond.kernel.strangers.add(`${address}:${leased.port} 203.0.113.2:443`);
    const second = connect(pond, client, elsewhere);
    expect(second.port).not.toBe(leased.port);
    expect(connect(pond, client, samePlace)).toEqual(leased);
    // Nor is the second port anybody else's.
    for (let port = 1; port < 8; port++) pond.send(syn({ ...other, port }, samePlace));
    const theirs = [...pond.forwarder.flows({ client: other.address as never })].map(({ port }) => port);
    expect(theirs).toHaveLength(6);
    expect(theirs).not.toContain(second.port);
  });

  test('lets a caller in only with a placeholder', () => {
    const pond = new Pond(ours, independent);
    const leased = connect(pond, client, origin);
    pond.kernel.strangers.add(`${address}:${leased.port} 203.0.113.2:443`);
    expect(pond.send(syn(elsewhere, leased)).verdict).toBe('no_flow');
    call(pond, samePlace, leased);
    expect([...pond.kernel.held.values()]).toContain(`${address}:${leased.port} 203.0.113.1:80`);
    pond.kernel.failure = 1;
    expect(pond.send(syn({ ...samePlace, port: 81 }, leased)).verdict).toBe('placeholder_failed');
  });
});

describe('a call from outside to a mapped TCP port', () => {
  test.each([
    ['endpoint_independent', { fromSamePlace: 'forward', fromElsewhere: 'forward' }],
    ['address_dependent', { fromSamePlace: 'forward', fromElsewhere: 'filtered' }],
    ['address_and_port_dependent', { fromSamePlace: 'filtered', fromElsewhere: 'filtered' }],
  ] as const)(
    'with a filter that is %s is let in from just there (RFC 5382 REQ-3)',
    (tcpFiltering, { fromSamePlace, fromElsewhere }) => {
      const pond = new Pond(own, { ...independent, tcpFiltering });
      const leased = connect(pond, client, origin);
      expect(pond.send(syn(samePlace, leased)).verdict).toBe(fromSamePlace);
      expect(pond.send(syn(elsewhere, leased)).verdict).toBe(fromElsewhere);
      // Whom the client has called may call, once it has.
      connect(pond, client, elsewhere);
      expect(pond.send(syn({ ...elsewhere, port: 9 }, leased)).verdict).toBe(fromSamePlace);
      expect(pond.send(tcp(samePlace, { ...leased, port: leased.port ^ 1 }, 'S')).verdict).toBe('no_flow');
      expect(pond.send(tcp({ ...elsewhere, port: 10 }, leased, 'SA', { acknowledgement: 1 })).verdict).toBe('no_flow');
    },
  );

  test('filters by address of a mapping that depends on it without being told', () => {
    const pond = new Pond(own, { tcpMapping: 'address_dependent' });
    const leased = connect(pond, client, origin);
    call(pond, samePlace, leased);
    expect(pond.send(syn(elsewhere, leased)).verdict).toBe('no_flow');
  });

  test('becomes a connection like any other, whichever side ends it', () => {
    const pond = new Pond(own, independent);
    const leased = connect(pond, client, origin);
    call(pond, elsewhere, leased);
    pond.pass(7_000);
    expect(states(pond)).toEqual(['live', 'live']);
    const data = Uint8Array.from({ length: 100 }, (_, i) => i);
    pond.send(tcp(elsewhere, leased, 'PA', { sequence: 701, acknowledgement: 301, data }));
    pond.send(tcp(client, elsewhere, 'FA', { sequence: 301, acknowledgement: 801 }));
    pond.send(tcp(elsewhere, leased, 'FA', { sequence: 801, acknowledgement: 302 }));
    pond.send(tcp(client, elsewhere, 'A', { sequence: 302, acknowledgement: 802 }));
    expect(pond.forwarder.counters()).toMatchObject({ tcpStrays: 0, flowsEnded: { finished: 1 } });
    // And once more from the same port, while the first rests.
    expect(states(pond).toSorted()).toEqual(['live', 'resting']);
    call(pond, elsewhere, leased);
    expect(states(pond)).toEqual(['live', 'live']);
  });

  test.each(['the client', 'the remote'])('opens from both sides at once, %s first (RFC 5382 REQ-2)', (first) => {
    const pond = new Pond(own, independent);
    const leased = connect(pond, client, origin);
    const out = () => expect(outside(pond.send(syn(client, elsewhere)))).toEqual(leased);
    const back = () => expect(inside(pond.send(syn(elsewhere, leased, 700)))).toEqual(client);
    for (const step of first === 'the client' ? [out, back] : [back, out]) step();
    const answer = { sequence: 100, acknowledgement: 701 };
    expect(outside(pond.send(tcp(client, elsewhere, 'SA', answer)))).toEqual(leased);
    expect(inside(pond.send(tcp(elsewhere, leased, 'SA', { sequence: 700, acknowledgement: 101 })))).toEqual(client);
    expect(outside(pond.send(tcp(client, elsewhere, 'A', { sequence: 101, acknowledgement: 701 })))).toEqual(leased);
    pond.pass(7_000);
    expect(states(pond)).toEqual(['live', 'live']);
  });

  test('that the client refuses is told so, and leaves nothing behind', () => {
    const pond = new Pond(own, independent);
    const leased = connect(pond, client, origin);
    pond.send(syn(elsewhere, leased, 700));
    const refusal = pond.send(tcp(client, elsewhere, 'RA', { acknowledgement: 701 }));
    expect(outside(refusal)).toEqual(leased);
    expect(states(pond)).toEqual(['live']);
    // A forged reset, which does not know the SYN, changes nothing.
    pond.send(syn(elsewhere, leased, 700));
    pond.send(tcp(client, elsewhere, 'RA', { acknowledgement: 9 }));
    expect(states(pond)).toHaveLength(2);
  });

  test('waits for the client’s answer like any connection that opens, no longer, and with few others', () => {
    const pond = new Pond(own, { ...independent, flowsMax: 4_096 });
    const leased = connect(pond, client, origin);
    const knock = (port: number) => pond.send(syn({ ...elsewhere, port }, leased, 700)).verdict;
    const knocks = Array.from({ length: 200 }, (_, port) => knock(port + 1));
    expect(knocks.filter((verdict) => verdict === 'forward')).toHaveLength(128);
    expect(new Set(knocks.slice(128))).toEqual(new Set(['call_limit']));
    // One that is answered makes room for one.
    pond.send(tcp(client, { ...elsewhere, port: 1 }, 'SA', { sequence: 300, acknowledgement: 701 }));
    expect([knock(300), knock(301)]).toEqual(['forward', 'call_limit']);
    // The client itself is not kept from anything by that.
    expect(connect(pond, client, { ...elsewhere, port: 900 })).toEqual(leased);
    // A successor counts them again.
    pond.restart();
    expect(knock(302)).toBe('call_limit');
    pond.pass(241);
    expect(states(pond).toSorted()).toEqual(['live', 'live', 'resting']);
    expect(knock(303)).toBe('forward');
  });

  test('is not let in beyond an eighth of the table, nor a thousand a second', () => {
    const many = new Pond([block(address, 'tcp', 8_960, 9_023)], { ...independent, flowsMax: 256, clientShare: 1 });
    const leased = [1, 2, 3].map((port) => connect(many, { ...client, port }, origin));
    const verdicts = leased.flatMap((to) =>
      Array.from({ length: 16 }, (_, port) => many.send(syn({ ...elsewhere, port: port + 1 }, to)).verdict),
    );
    expect(verdicts.filter((verdict) => verdict === 'forward')).toHaveLength(32);
    const fast = new Pond(own, { ...independent, flowsMax: 4_096 });
    const to = connect(fast, client, origin);
    const refused = (port: number) => {
      const { verdict } = fast.send(syn({ ...elsewhere, port }, to, 700));
      fast.send(tcp(client, { ...elsewhere, port }, 'RA', { acknowledgement: 701 }));
      return verdict;
    };
    const answers = Array.from({ length: 1_100 }, (_, port) => refused(port + 1));
    expect(answers.indexOf('call_limit')).toBe(1_000);
    fast.pass(1);
    expect(refused(5_000)).toBe('forward');
  });

  test('counts against the client’s flows, not against how fast it may begin some', () => {
    const limits = { flowsPerSPerClientMax: 2, tcpFlowsPerClientMax: 3 };
    const pond = new Pond(own, { ...independent, ...limits });
    const leased = connect(pond, client, origin);
    expect(pond.send(syn(elsewhere, leased)).verdict).toBe('forward');
    expect(connect(pond, client, samePlace)).toEqual(leased);
    expect(pond.send(syn({ ...elsewhere, port: 1 }, leased)).verdict).toBe('client_flows');
  });

  test('is held for six seconds where it is filtered, and answered then if that is wanted', () => {
    const pond = new Pond(own, {
      ...independent,
      tcpFiltering: 'address_dependent',
      unsolicitedSyn: 'unreachable',
    });
    const leased = connect(pond, client, origin);
    expect(pond.send(syn(elsewhere, leased)).verdict).toBe('filtered');
    pond.pass(6);
    expect(read(pond.due()!)).toMatchObject({ destination: elsewhere.address });
  });

  test('reaches nobody past the fence', () => {
    const pond = new Pond(own, independent);
    const leased = connect(pond, client, origin);
    pond.forwarder.fence(pond.nowMs);
    expect(pond.send(syn(elsewhere, leased)).verdict).not.toBe('forward');
    expect(states(pond)).toEqual([]);
  });

  test('may be from another client, or from oneself, by the mapped port (RFC 5382 REQ-8)', () => {
    const pond = new Pond(own, independent);
    const [leased, theirs] = [connect(pond, client, origin), connect(pond, other, elsewhere)];
    for (const [from, seen] of [
      [other, theirs],
      [client, undefined],
    ] as const) {
      const sent = pond.send(build(syn(from, leased, 700)));
      expect(inside(sent)).toEqual(client);
      const source = outside(sent);
      if (seen) expect(source).toEqual(seen);
      else expect(source).not.toEqual(leased);
      const answered = pond.send(tcp(client, source, 'SA', { sequence: 300, acknowledgement: 701 }));
      expect([outside(answered), inside(answered)]).toEqual([leased, from]);
      expect(inside(pond.send(tcp(from, leased, 'A', { sequence: 701, acknowledgement: 301 })))).toEqual(client);
    }
    expect(pond.drops()).toEqual({});
  });
});
