import { describe, expect, test } from 'vitest';
import { block, client, origin, outside, Pond } from '../../support/fish.ts';
import { build, checksumProblem, read, tcp, udp, type Endpoint } from '../../support/packets.ts';

const address = '198.51.100.10';
const leased: Endpoint = { address, port: 9_000 };
const blocks = [block(address, 'tcp', 9_000, 9_000), block(address, 'udp', 9_000, 9_000)];
const answering = (settings: object = {}) => new Pond(blocks, { unsolicitedSyn: 'unreachable', ...settings });
/** What is due by now. */
const answers = (pond: Pond): Uint8Array[] => {
  const all: Uint8Array[] = [];
  for (let bytes = pond.due(); bytes !== undefined; bytes = pond.due()) all.push(bytes);
  return all;
};

describe('a SYN from outside that nobody waits for (RFC 5382 REQ-4)', () => {
  test('is dropped in silence by default, and never answered (REQ-4a)', () => {
    const pond = new Pond(blocks);
    expect(pond.send(tcp(origin, leased, 'S')).verdict).toBe('no_flow');
    pond.pass(60);
    expect(answers(pond)).toEqual([]);
    expect(pond.reply()).toBeUndefined();
  });

  test('is answered after six seconds, if that is wanted, and not before: port unreachable, from the leased address', () => {
    const pond = answering({ vnetHeaderBytes: 10 });
    const syn = tcp(origin, leased, 'S', { sequence: 7, tcpOptions: [2, 4, 5, 180] });
    expect(pond.send(syn).verdict).toBe('no_flow');
    expect(pond.reply()).toBeUndefined();
    pond.pass(5.9);
    expect(answers(pond)).toEqual([]);
    pond.pass(0.2);
    const [answer, ...more] = answers(pond);
    expect(more).toEqual([]);
    expect(read(answer!)).toMatchObject({ protocol: 1, source: address, destination: origin.address, ttl: 64 });
    expect([...answer!.subarray(20, 22)]).toEqual([3, 3]);
    expect(answer!.subarray(28)).toEqual(build(syn));
    expect(checksumProblem(answer!)).toBeUndefined();
    expect(pond.forwarder.counters()).toMatchObject({ unsolicitedSynsHeld: 1, unsolicitedSynsAnswered: 1 });
  });

  test('is forgotten when the client opens the same connection meanwhile, also if that is over by then', () => {
    const pond = answering({ timers: { tcpRestS: 0, tcpResetRestS: 0 } });
    pond.send(tcp(origin, leased, 'S'));
    pond.send(tcp({ ...origin, port: 444 }, leased, 'S'));
    expect(outside(pond.send(tcp(client, origin, 'S', { sequence: 100 })))).toEqual(leased);
    pond.send(tcp(origin, leased, 'RA', { acknowledgement: 101 }));
    expect([...pond.forwarder.flows()]).toEqual([]);
    pond.pass(7);
    expect(answers(pond).map((answer) => read(answer.subarray(28)).sourcePort)).toEqual([444]);
  });

  test('to a port that is not leased, and anything but a SYN, is dropped in silence all the same', () => {
    const pond = answering();
    pond.send(tcp(origin, { address, port: 9_001 }, 'S'));
    for (const flags of ['A', 'SA', 'R', 'FA']) pond.send(tcp(origin, leased, flags));
    pond.send(udp(origin, leased));
    pond.pass(7);
    expect(answers(pond)).toEqual([]);
  });

  test('is one of so many, a second and in all', () => {
    const pond = answering({ icmpErrorsPerSMax: 3 });
    for (let port = 1; port <= 10; port++) pond.send(tcp({ ...origin, port }, leased, 'S'));
    pond.pass(7);
    expect(answers(pond)).toHaveLength(3);
    const many = answering({ icmpErrorsPerSMax: 1_000 });
    for (let port = 1; port <= 900; port++) many.send(tcp({ ...origin, port }, leased, 'S'));
    many.pass(7);
    expect(answers(many)).toHaveLength(256);
    // In a ring: what was answered makes room.
    for (let port = 1; port <= 300; port++) many.send(tcp({ ...origin, port }, leased, 'S'));
    many.pass(7);
    expect(answers(many).map((answer) => read(answer.subarray(28)).sourcePort)).toEqual(
      Array.from({ length: 256 }, (_, i) => i + 1),
    );
  });

  test('over IPv6 is answered by ICMPv6', () => {
    const pond = answering({ clientPrefixes: ['2001:db8:c::/64'] });
    const own = { address: '2001:db8:a::10', port: 9_000 };
    const remote = { address: '2001:db8:f::1', port: 443 };
    pond.forwarder.setBlocks([block(own.address, 'tcp', 9_000, 9_000)], 0);
    const syn = tcp(remote, own, 'S');
    expect(pond.send(syn).verdict).toBe('no_flow');
    pond.pass(7);
    const [answer] = answers(pond);
    expect([...answer!.subarray(40, 42)]).toEqual([1, 4]);
    expect(answer!.subarray(8, 24)).toEqual(build(syn).subarray(24, 40));
    expect(answer!.subarray(24, 40)).toEqual(build(syn).subarray(8, 24));
    expect(answer!.subarray(48)).toEqual(build(syn));
    expect(checksumProblem(answer!)).toBeUndefined();
  });
});
