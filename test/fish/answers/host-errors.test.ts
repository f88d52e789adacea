import { describe, expect, test } from 'vitest';
import { hostErrorBytes_max } from '../../../src/fish/answers/host-errors.ts';
import type { Address } from '../../../src/net/address.ts';
import { block, client, client6, connect, origin, origin6, Pond } from '../../support/fish.ts';
import { build, checksumProblem, read, tcp, udp, type PacketFields } from '../../support/packets.ts';

const [leased, leased6] = ['198.51.100.10', '2001:db8:d::10'];
const host = { icmpSource: '192.0.2.1' as Address, icmpSource6: '2001:db8:c::1' as Address };
const blocks = [leased, leased6].flatMap((address) => [
  block(address, 'tcp', 9_000, 9_001),
  block(address, 'udp', 9_000, 9_001),
]);

/** The message by which the host tells itself of a packet that has left fish. */
const about = (packet: Uint8Array, type: number, code: number, quoted = 200): Uint8Array =>
  Uint8Array.from([type, code, 0xbe, 0xef, 0, 0, 5, 0x78, ...packet.slice(0, quoted)]);

describe.each([
  ['IPv4', client, origin, host.icmpSource, 4, [3, 4], 28],
  ['IPv6', client6, origin6, host.icmpSource6, 6, [2, 0], 48],
] as const)('an ICMP error of the host itself over %s', (_name, from, to, source, family, [type, code], headers) => {
  test.each<[string, (pond: Pond) => PacketFields]>([
    [
      'a connection',
      (pond) => {
        connect(pond, from, to);
        return tcp(from, to, 'A', { sequence: 101, acknowledgement: 501, data: new Uint8Array(1_000) });
      },
    ],
    ['a datagram', () => udp(from, to, { data: new Uint8Array(1_000) })],
  ])('is told to the client by the host’s address, about what that has sent: %s', (_what, packetOf) => {
    for (const vnetHeaderBytes of [0, 10] as const) {
      const pond = new Pond(blocks, { ...host, vnetHeaderBytes });
      const sent = build(packetOf(pond));
      const { bytes } = pond.send(sent);
      const length = pond.forwarder.relayHostError(about(bytes, type, code), family);
      const told = pond.forwarder.hostError.slice(vnetHeaderBytes, length);
      expect(checksumProblem(told)).toBeUndefined();
      expect(read(told)).toMatchObject({ source, destination: from.address });
      const quoted = told.slice(headers);
      expect([told[headers - 8], told[headers - 7]]).toEqual([type, code]);
      expect(read(quoted)).toMatchObject({
        source: from.address,
        sourcePort: from.port,
        destination: to.address,
        destinationPort: to.port,
      });
      // All of it as it was sent, but for what every hop changes.
      expect(quoted.slice(headers - 8 + 2)).toEqual(sent.slice(headers - 8 + 2, quoted.length));
      expect(pond.forwarder.counters().hostErrorsRelayed).toBe(1);
    }
  });

  test('is nobody’s when it is about no flow, an ended one, or what a client was sent, and when no address is to say it', () => {
    const pond = new Pond(blocks, { ...host, timers: { udpRestS: 0 } });
    const { bytes } = pond.send(udp(from, to));
    const tells = (message: Uint8Array, by = pond) => by.forwarder.relayHostError(message, family);
    const inward = pond.send(udp(to, { address: read(bytes).source, port: read(bytes).sourcePort })).bytes;
    expect(tells(about(build(udp(to, from)), type, code))).toBe(0);
    expect(tells(about(inward, type, code))).toBe(0);
    expect(tells(about(bytes, type, code))).toBeGreaterThan(0);
    const silent = new Pond(blocks);
    expect(tells(about(silent.send(udp(from, to)).bytes, type, code), silent)).toBe(0);
    pond.pass(301);
    expect(tells(about(bytes, type, code))).toBe(0);
    expect(pond.forwarder.counters().hostErrorsRelayed).toBe(1);
    // No packet was dropped: these are copies of what others hear, too.
    expect(pond.drops()).toEqual({});
  });

  test.each([0, 7, 20, 8 + (family === 4 ? 20 : 40)])('may be cut short, after %i bytes', (length) => {
    const pond = new Pond(blocks, host);
    const { bytes } = pond.send(udp(from, to));
    expect(pond.forwarder.relayHostError(about(bytes, type, code).slice(0, length), family)).toBe(0);
  });

  test('or longer than any is', () => {
    const pond = new Pond(blocks, host);
    const { bytes } = pond.send(udp(from, to, { data: new Uint8Array(1_400) }));
    const message = about(bytes, type, code, hostErrorBytes_max - 7);
    expect(pond.forwarder.relayHostError(message, family)).toBe(0);
    expect(pond.forwarder.relayHostError(message.slice(0, -1), family)).toBeGreaterThan(0);
  });
});
