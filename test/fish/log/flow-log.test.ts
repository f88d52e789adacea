import { fc, test } from '@fast-check/vitest';
import { describe, expect } from 'vitest';
import { AddressBook } from '../../../src/fish/packet/address-book.ts';
import { FlowLog } from '../../../src/fish/log/flow-log.ts';
import { makeTupleRows, type FlowQuery } from '../../../src/fish/flows/flow-tuple.ts';
import type { FlowAnswer } from '../../../src/fish/log/flow-log.ts';
import { block, client, origin, Pond, shared, wallStartMs } from '../../support/fish.ts';
import { addressNumber, echo, read, tcp, udp, type Endpoint } from '../../support/packets.ts';

const noBook = new AddressBook(new Uint32Array(0), () => 0);
const address = '198.51.100.10';
const dns: Endpoint = { address: '203.0.113.1', port: 53 };
const blocks = [
  block(address, 'tcp', 9_000, 9_000, { lease: 'lease-1', ...shared() }),
  block(address, 'udp', 9_000, 9_000, { lease: 'lease-2' }),
  block(address, 'icmp', 9_000, 9_000, { lease: 'lease-3' }),
];

const ask = (pond: Pond, at: number, more: Partial<FlowQuery> = {}, max = 10): FlowAnswer =>
  pond.forwarder.whoHad(
    { protocol: 'tcp', address: address as never, port: 9_000, remote: null, remotePort: null, at, ...more },
    pond.nowMs,
    max,
  );
const toward = (remote: Endpoint) => ({ remote: remote.address as never, remotePort: remote.port });

/** A connection that is refused at once: open and over between two seconds. */
function refused(pond: Pond, from: Endpoint, to: Endpoint): void {
  expect(pond.send(tcp(from, to, 'S', { sequence: 100 })).verdict).toBe('forward');
  const reset = tcp(to, { address, port: 9_000 }, 'RA', { acknowledgement: 101 });
  expect(pond.send(reset).verdict).toBe('forward');
}

describe('who had a tuple at an instant', () => {
  test('is the one whose flow lasts', () => {
    const pond = new Pond(blocks);
    pond.pass(10);
    pond.send(tcp(client, origin, 'S'));
    pond.pass(5);
    const answer = ask(pond, pond.at(12), toward(origin));
    expect(answer).toEqual({
      verdict: 'match',
      matches: [
        {
          lease: 'lease-1',
          protocol: 'tcp',
          client: client.address,
          clientPort: client.port,
          address,
          port: 9_000,
          remote: origin.address,
          remotePort: origin.port,
          openedAt: pond.at(10),
          closedAt: null,
          ending: null,
        },
      ],
      truncated: false,
      coversSince: pond.at(0),
      coversThrough: pond.at(15),
      marginUs: 0,
    });
  });

  test('was the one whose flow has ended, from the instant it began to the instant it ended, but not while it rested', () => {
    const pond = new Pond(blocks);
    pond.pass(10);
    pond.send(tcp(client, origin, 'S', { sequence: 100 }));
    pond.pass(5);
    pond.send(tcp(origin, { address, port: 9_000 }, 'RA', { acknowledgement: 101 }));
    pond.pass(30);
    const verdicts = [9.999_999, 10, 12, 15, 15.000_001, 30].map((s) => ask(pond, pond.at(s), toward(origin)).verdict);
    expect(verdicts).toEqual(['not_mine', 'match', 'match', 'match', 'not_mine', 'not_mine']);
    expect(ask(pond, pond.at(12)).matches).toMatchObject([
      { client: client.address, openedAt: pond.at(10), closedAt: pond.at(15), ending: 'reset' },
    ]);
  });

  test('may be several when the remote is not told, the latest first', () => {
    const pond = new Pond(blocks, { timers: { tcpRestS: 0 } });
    const remotes = [origin, { ...origin, port: 80 }, { ...origin, address: '203.0.113.2' }];
    for (const [i, remote] of remotes.entries()) refused(pond, { ...client, port: 1 + i }, remote);
    const clientPorts = (answer: FlowAnswer) => answer.matches.map((match) => match.clientPort);
    expect(clientPorts(ask(pond, pond.at(0)))).toEqual([3, 2, 1]);
    expect(clientPorts(ask(pond, pond.at(0), { remote: origin.address as never }))).toEqual([2, 1]);
    expect(clientPorts(ask(pond, pond.at(0), toward(origin)))).toEqual([1]);
    expect(ask(pond, pond.at(0), {}, 2)).toMatchObject({ verdict: 'match', truncated: true, matches: [{}, {}] });
    expect(ask(pond, pond.at(0), {}, 3)).toMatchObject({ truncated: false, matches: [{}, {}, {}] });
  });

  test('is told apart by protocol, address and port', () => {
    const pond = new Pond(blocks);
    pond.send(tcp(client, origin, 'S'));
    for (const other of [{ protocol: 'udp' }, { address: '198.51.100.11' }, { port: 9_001 }, toward(dns)])
      expect(ask(pond, pond.at(0), other as Partial<FlowQuery>).verdict).toBe('not_mine');
  });

  test('of UDP is one toward every remote, of ICMP one per address', () => {
    const pond = new Pond(blocks);
    pond.send(udp(client, dns));
    pond.send(echo(client.address, origin.address, 77));
    expect(
      ask(pond, pond.at(0), { protocol: 'udp', ...toward({ address: '192.0.2.99', port: 1 }) }).matches,
    ).toMatchObject([{ lease: 'lease-2', remote: null, remotePort: null }]);
    expect(ask(pond, pond.at(0), { protocol: 'icmp', ...toward(origin) }).matches).toMatchObject([
      { lease: 'lease-3', clientPort: 77, remote: origin.address, remotePort: null },
    ]);
    expect(ask(pond, pond.at(0), { protocol: 'icmp', ...toward({ ...origin, address: '203.0.113.2' }) }).verdict).toBe(
      'not_mine',
    );
  });

  test('is not known before recording began, nor ahead of time', () => {
    const pond = new Pond(blocks);
    pond.send(udp(client, dns));
    expect(ask(pond, pond.at(-0.000_001)).verdict).toBe('not_covered');
    expect(ask(pond, pond.at(0)).verdict).toBe('not_mine');
    expect(ask(pond, pond.at(1), { protocol: 'udp' })).toMatchObject({
      verdict: 'not_covered',
      coversThrough: pond.at(0),
    });
  });

  test('is not known where the ring has overwritten it, and the answer says so', () => {
    const pond = new Pond(blocks, { flowLogMax: 3, timers: { tcpRestS: 0 } });
    for (let i = 0; i < 5; i++) {
      refused(pond, { ...client, port: 1 + i }, origin);
      pond.pass(1);
    }
    // Ended at 0, 1, 2, 3 and 4 s: the first two are overwritten.
    const answers = [0, 1, 1.000_001, 2, 4, 4.5].map((s) => ask(pond, pond.at(s)));
    expect(answers.map((each) => each.verdict)).toEqual([
      'not_covered',
      'not_covered',
      'not_mine',
      'match',
      'match',
      'not_mine',
    ]);
    expect(answers[0]?.coversSince).toBe(pond.at(1) + 1);
  });

  test('is known of a flow that lasts however long ago it began', () => {
    const pond = new Pond(blocks, { flowLogMax: 1, timers: { tcpRestS: 0 } });
    pond.send(tcp({ ...client, port: 9 }, dns, 'S'));
    pond.pass(1);
    for (let i = 0; i < 5; i++) refused(pond, client, origin);
    expect(ask(pond, pond.at(0.5))).toMatchObject({ verdict: 'match', matches: [{ clientPort: 9 }] });
    expect(ask(pond, pond.at(0.5), toward(origin)).verdict).toBe('not_covered');
  });

  test('names the lease as it was, after it is gone', () => {
    const pond = new Pond(blocks);
    pond.send(tcp(client, origin, 'S'));
    pond.pass(1);
    pond.forwarder.setBlocks([block(address, 'tcp', 9_000, 9_000, { lease: 'lease-9' })], pond.nowMs);
    pond.pass(1);
    pond.send(tcp({ ...client, port: 7 }, origin, 'S'));
    expect(ask(pond, pond.at(0.5)).matches).toMatchObject([
      { lease: 'lease-1', ending: 'lease_ended', closedAt: pond.at(1) },
    ]);
    expect(ask(pond, pond.at(1.5)).verdict).toBe('not_mine');
    expect(ask(pond, pond.at(2)).matches).toMatchObject([{ lease: 'lease-9', clientPort: 7 }]);
  });

  test('is told by the clock as it was last set', () => {
    const pond = new Pond(blocks);
    pond.send(tcp(client, origin, 'S', { sequence: 100 }));
    pond.pass(10);
    // The wall clock was an hour slow, and is put right while the flow lasts.
    pond.forwarder.setWallOffset(wallStartMs + 3_600_000);
    pond.send(tcp(origin, { address, port: 9_000 }, 'RA', { acknowledgement: 101 }));
    expect(ask(pond, pond.at(3_605)).matches).toMatchObject([{ openedAt: pond.at(3_600), closedAt: pond.at(3_610) }]);
  });
});

describe('a clock that is not exact', () => {
  const marginUs = 10_000;
  /** A pond with one flow that lasted from second 10 to second 15. */
  function once(): Pond {
    const pond = new Pond(blocks, { marginUs });
    pond.pass(10);
    pond.send(tcp(client, origin, 'S', { sequence: 100 }));
    pond.pass(5);
    pond.send(tcp(origin, { address, port: 9_000 }, 'RA', { acknowledgement: 101 }));
    pond.pass(15);
    return pond;
  }

  test('makes a flow count as long before and after as it may be off', () => {
    const pond = once();
    const verdicts = [9.989_999, 9.99, 10, 15, 15.01, 15.010_001].map((s) => ask(pond, pond.at(s)).verdict);
    expect(verdicts).toEqual(['not_mine', 'match', 'match', 'match', 'match', 'not_mine']);
    expect(ask(pond, pond.at(12)).marginUs).toBe(marginUs);
  });

  test('makes a flow that lasts count as long before it opened', () => {
    const pond = new Pond(blocks, { marginUs });
    pond.pass(10);
    pond.send(tcp(client, origin, 'S'));
    pond.pass(1);
    expect([9.989, 9.99, 11].map((s) => ask(pond, pond.at(s)).verdict)).toEqual(['not_mine', 'match', 'match']);
  });

  test('says nothing about the instants next to its beginning and to now', () => {
    const pond = once();
    const verdicts = [0.009_999, 0.01, 29.99, 29.990_001].map((s) => ask(pond, pond.at(s)).verdict);
    expect(verdicts).toEqual(['not_covered', 'not_mine', 'not_mine', 'not_covered']);
  });

  test('leaves a gap where nobody looked at it, and knows what it recorded all the same', () => {
    const pond = once();
    pond.forwarder.blur(pond.at(14), pond.at(20));
    const verdicts = [13.989, 14, 17, 20.01, 20.010_001].map((s) => ask(pond, pond.at(s)).verdict);
    expect(verdicts).toEqual(['match', 'match', 'not_covered', 'not_covered', 'not_mine']);
    const inGap = ask(pond, pond.at(17));
    expect(inGap.coversSince - marginUs).toBeGreaterThan(pond.at(20));
    expect(ask(pond, pond.at(25)).coversSince).toBe(pond.at(0));
  });

  test('answers with whole microseconds, also where nobody looked at the clock', () => {
    const log = new FlowLog({ entriesMax: 4, since: 1_000, marginUs: 10 });
    log.blur(2_000.25, 3_000.75);
    expect([1_989, 1_990, 3_011, 3_012].map((at) => log.coversSince(at))).toEqual([1_000, 3_012, 3_012, 1_000]);
  });

  test('begins to forget when there are too many gaps, the oldest first', () => {
    const pond = once();
    for (let gap = 0; gap < 4_096; gap++) pond.forwarder.blur(pond.at(1), pond.at(2));
    expect(ask(pond, pond.at(5)).verdict).toBe('not_mine');
    pond.forwarder.blur(pond.at(6), pond.at(7));
    expect([0.5, 5].map((s) => ask(pond, pond.at(s)).verdict)).toEqual(['not_covered', 'not_mine']);
  });
});

describe('the ring', () => {
  const entry = fc.record({
    port: fc.nat({ max: 2 }),
    opened: fc.nat({ max: 50 }),
    length: fc.nat({ max: 20 }),
    lease: fc.constantFrom('a', 'b', 'c'),
  });
  test.prop([
    fc.array(entry, { maxLength: 40 }),
    fc.integer({ min: 1, max: 8 }),
    fc.nat({ max: 2 }),
    fc.nat({ max: 80 }),
  ])(
    'knows what a list would know, except for what it says that it may have forgotten',
    (entries, entriesMax, port, at) => {
      const log = new FlowLog({ entriesMax, since: 0 });
      const rows = makeTupleRows(1);
      rows.protocol[0] = 6;
      rows.leased[0] = addressNumber(address);
      for (const each of entries) {
        rows.leasedPort[0] = each.port;
        log.record(rows, 0, noBook, each.lease, each.opened, each.opened + each.length, 'finished');
      }
      const query: FlowQuery = { protocol: 'tcp', address: address as never, port, remote: null, remotePort: null, at };
      const found = log.search(query, 100).map((record) => `${record.lease} ${record.openedAt} ${record.closedAt}`);
      const matching = entries
        .filter((each) => each.port === port && each.opened <= at && at <= each.opened + each.length)
        .map((each) => `${each.lease} ${each.opened} ${each.opened + each.length}`);
      for (const each of found) expect(matching).toContain(each);
      if (at >= log.coversSince(at)) expect(found.toReversed()).toEqual(matching);
    },
  );
});

test('reading a capture of the pond and asking its log agree', () => {
  const pond = new Pond([block(address, 'udp', 8_192, 8_319)]);
  const seen = Array.from({ length: 100 }, (_, i) => {
    pond.pass(0.01);
    const { bytes } = pond.send(udp({ address: '100.96.0.2', port: 1 + i }, dns));
    return { clientPort: 1 + i, port: read(bytes).sourcePort, at: pond.at(pond.nowMs / 1_000) };
  });
  for (const { clientPort, port, at } of seen)
    expect(ask(pond, at, { protocol: 'udp', port }).matches.map((match) => match.clientPort)).toEqual([clientPort]);
});
