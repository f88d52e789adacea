import { describe, expect, test } from 'vitest';
import { client, origin, Pond } from '../../support/fish.ts';
import { checksumProblem, read, tcp, udp } from '../../support/packets.ts';

const icmpSource = '192.0.2.1' as never;
const full = (settings: object = {}) => new Pond([], { refuseTcpWith: 'rst', ...settings });
const wordAt = (bytes: Uint8Array, at: number) => new DataView(bytes.buffer, bytes.byteOffset).getUint32(at);

describe('a client whose TCP is refused by a reset', () => {
  test.each([
    ['a bare SYN', 0, 4_712],
    ['a SYN with data (Fast Open)', 20, 4_732],
  ])('sees its SYN acknowledged, data and all: %s', (_what, bytes, acknowledged) => {
    const pond = full({ vnetHeaderBytes: 10 });
    expect(pond.send(tcp(client, origin, 'S', { sequence: 4_711, data: new Uint8Array(bytes) })).verdict).toBe(
      'no_lease',
    );
    const reply = pond.reply()!;
    expect(reply).toHaveLength(40);
    expect(read(reply)).toMatchObject({
      protocol: 6,
      source: origin.address,
      sourcePort: origin.port,
      destination: client.address,
      destinationPort: client.port,
      ttl: 64,
    });
    // RFC 9293 3.10.7.1: SEQ 0, ACK of the SYN, RST and ACK, in a header of five words.
    expect([wordAt(reply, 24), wordAt(reply, 28), ...reply.subarray(32, 36)]).toEqual([
      0,
      acknowledged,
      0x50,
      0x14,
      0,
      0,
    ]);
    expect(checksumProblem(reply)).toBeUndefined();
    expect(pond.forwarder.reply.subarray(0, 10)).toEqual(new Uint8Array(10));
  });

  test('whose number is the last there is sees it wrap around', () => {
    const pond = full();
    pond.send(tcp(client, origin, 'S', { sequence: 0xffff_ffff }));
    expect(wordAt(pond.reply()!, 28)).toBe(0);
  });

  test('hears of other protocols by ICMP', () => {
    const pond = full({ icmpSource });
    pond.send(udp(client, origin));
    expect(read(pond.reply()!)).toMatchObject({ protocol: 1, source: icmpSource });
    pond.send(tcp(client, origin, 'S'));
    expect(read(pond.reply()!)).toMatchObject({ protocol: 6, source: origin.address });
    expect(pond.forwarder.counters()).toMatchObject({ icmpErrorsSent: 1, tcpResetsSent: 1 });
  });

  test('hears so many per second and no more', () => {
    const pond = full({ icmpErrorsPerSMax: 2 });
    const replies = Array.from({ length: 4 }, () => (pond.send(tcp(client, origin, 'S')), pond.reply() !== undefined));
    expect(replies).toEqual([true, true, false, false]);
    expect(pond.forwarder.counters()).toMatchObject({ tcpResetsSent: 2, tcpResetsSuppressed: 2 });
  });

  test('hears nothing about what begins no connection', () => {
    const pond = full();
    for (const flags of ['A', 'SA', 'RA', 'FA']) {
      expect(pond.send(tcp(client, origin, flags)).verdict).toBe('not_syn');
      expect(pond.reply()).toBeUndefined();
    }
  });
});
