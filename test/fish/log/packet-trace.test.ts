import { describe, expect, test } from 'vitest';
import { packetText, traceText } from '../../../src/agent/trace/trace-text.ts';
import { PacketTrace, type TraceFilter, type TraceRequest } from '../../../src/fish/log/packet-trace.ts';
import { FORWARD } from '../../../src/fish/verdicts.ts';
import type { Address } from '../../../src/net/address.ts';
import { block, client, client6, connect, origin, origin6, Pond } from '../../support/fish.ts';
import { build, echo, tcp, udp, type Endpoint } from '../../support/packets.ts';

const leased = '198.51.100.10';
const router = '192.0.2.7';
const ask = (filter: Partial<TraceFilter>, o: Partial<TraceRequest> = {}): PacketTrace =>
  new PacketTrace(
    {
      filter: { addresses: [], ports: [], ...filter },
      packets_max: 100,
      bytes_max: 1_048_576,
      snapBytes: 65_575,
      forMs: 60_000,
      ...o,
    },
    0,
    0,
  );
const by = (...addresses: readonly string[]) => ({ addresses: addresses as Address[] });

/** Hands packets to fish as the pump does while somebody traces; the texts of what was seen. */
function seen(pond: Pond, trace: PacketTrace, ...packets: readonly Uint8Array[]): readonly string[] {
  const { forwarder } = pond;
  const buffer = new Uint8Array(70_000);
  for (const packet of packets) {
    pond.nowMs++;
    buffer.set(packet);
    trace.before(buffer, packet.length);
    const verdict = forwarder.handle(buffer, packet.length, pond.nowMs);
    trace.after(buffer, packet.length, verdict, verdict === FORWARD, pond.nowMs);
    for (let more = forwarder.next(buffer); more !== 0; more = forwarder.next(buffer))
      trace.left('released', buffer, more, FORWARD, pond.nowMs);
    if (verdict !== FORWARD && forwarder.replyLength > 0)
      trace.left('reply', forwarder.reply, forwarder.replyLength, FORWARD, pond.nowMs);
  }
  return trace.found.map(traceText);
}

const blocks = (['tcp', 'udp', 'icmp'] as const).flatMap((protocol) => [
  block(leased, protocol, 9_000, 9_000),
  block('2001:db8:d::10', protocol, 9_000, 9_000),
]);
const error = (about: Uint8Array, to: string, type = 3, code = 4, from = router): Uint8Array =>
  build({ protocol: 'icmp', source: from, destination: to, type, code, identifier: 0, data: about });

describe('an ICMP error is of the flow of the packet that it quotes', () => {
  const pond = new Pond(blocks);
  connect(pond, client, origin);
  const sent = build(tcp({ address: leased, port: 9_000 }, origin, 'A', { sequence: 101 })).slice(0, 28);
  const tooBig = error(sent, leased);
  const unrelated = error(build(udp({ address: leased, port: 9_000 }, origin)), leased);

  test.each<[string, Partial<TraceFilter>]>([
    ['protocol', { protocol: 'tcp' }],
    ['the remote’s port', { protocol: 'tcp', ports: [origin.port] }],
    ['the leased port', { protocol: 'tcp', ports: [9_000] }],
    ['the client’s port, which it has after its translation', { protocol: 'tcp', ports: [client.port] }],
    ['client and remote', { protocol: 'tcp', ...by(client.address, origin.address) }],
    ['client, leased address and remote', { protocol: 'tcp', ...by(client.address, leased, origin.address) }],
  ])('by its %s', (_what, filter) => {
    expect(seen(pond, ask(filter), tooBig, unrelated)).toEqual([
      `icmp ${router} > ${leased} [unreachable, code 4] about tcp ${leased}:9000 > ${origin.address}:443, 56 bytes: ` +
        `forwarded as icmp ${router} > ${client.address} [unreachable, code 4] about tcp ${client.address}:40000 > ${origin.address}:443`,
    ]);
  });

  test('and of ICMP itself, by its own ends', () => {
    expect(seen(pond, ask({ protocol: 'icmp', ...by(router) }), tooBig)).toHaveLength(1);
    expect(seen(pond, ask({ protocol: 'icmp', ports: [9_000] }), tooBig)).toEqual([]);
  });

  test('over IPv6 as well', () => {
    const pond = new Pond(blocks);
    const out = pond.send(udp(client6, origin6, { data: new Uint8Array(1_400) })).bytes;
    const filter = { protocol: 'udp', ports: [origin6.port], ...by(origin6.address) } as const;
    expect(seen(pond, ask(filter), error(out.slice(0, 100), '2001:db8:d::10', 2, 0, '2001:db8::7'))).toEqual([
      expect.stringMatching(
        /icmpv6 2001:db8::7 > 2001:db8:d::10 \[packet too big, code 0\] about udp .* forwarded as .* about udp \[2001:db8:c::2\]:40000 > \[2001:db8:0:1::1\]:443$/,
      ),
    ]);
  });

  test('and so is fish’s own answer', () => {
    const full = new Pond([block(leased, 'tcp', 9_000, 9_000)], { icmpSource: '100.64.0.1' as Address });
    connect(full, client, origin);
    const other: Endpoint = { address: '100.96.0.3', port: 5 };
    expect(seen(full, ask(by(other.address)), build(tcp(other, origin, 'S')))).toEqual([
      expect.stringContaining('dropped, no_port'),
      expect.stringContaining(`about tcp ${other.address}:5 > ${origin.address}:443`),
    ]);
  });
});

describe('fragments', () => {
  const piece = (offset: number, more: boolean, identification = 7) =>
    build(
      udp(client, origin, {
        identification,
        fragment: (more ? 0x2000 : 0) | (offset / 8),
        data: new Uint8Array(offset === 0 ? 8 : 0),
      }),
    );
  const whole = [piece(0, true), piece(16, true), piece(24, false)];
  const udp443 = { protocol: 'udp', ports: [443] } as const;

  test('are all of the flow whose ports the first one has', () => {
    expect(seen(new Pond(blocks), ask(udp443), ...whole).map((text) => text.replace(/:.*/, ''))).toHaveLength(3);
    expect(seen(new Pond(blocks), ask({ protocol: 'udp', ports: [444] }), ...whole)).toEqual([]);
  });

  test('those that come before it are told with what became of them', () => {
    const texts = seen(new Pond(blocks), ask(udp443), piece(16, true), piece(16, true, 8), whole[0]!, whole[2]!);
    expect(texts).toEqual([
      expect.stringMatching(/^udp 100\.96\.0\.2 > 203\.0\.113\.1, fragment at 16, .*: waits for the first fragment/),
      expect.stringMatching(
        /^udp 100\.96\.0\.2:40000 > .*, first fragment, .*: forwarded as udp 198\.51\.100\.10:9000/,
      ),
      expect.stringMatching(/^udp 198\.51\.100\.10 > .*, fragment at 16, .*: had waited for the first fragment/),
      expect.stringMatching(/^udp 100\.96\.0\.2 > .*, fragment at 24, .*: forwarded as udp 198\.51\.100\.10 >/),
    ]);
  });

  test('of a packet whose first one is another flow’s by now are that flow’s', () => {
    const other = build(
      udp(client, { ...origin, port: 9 }, { identification: 7, fragment: 0x2000, data: new Uint8Array(8) }),
    );
    const pond = new Pond(blocks);
    const trace = ask(udp443);
    expect(seen(pond, trace, ...whole)).toHaveLength(3);
    expect(seen(pond, trace, other, whole[1]!)).toHaveLength(3);
  });

  test('of IPv6 are told apart by their header', () => {
    const header = (offset: number, more: number) => ({
      type: 44,
      body: [(offset >>> 8) & 255, (offset & 0xf8) | more, 0, 0, 0, 9],
    });
    const piece6 = (offset: number, more: number) =>
      build(udp(client6, origin6, { extensions: [header(offset, more)], data: new Uint8Array(offset === 0 ? 8 : 0) }));
    expect(seen(new Pond(blocks), ask(udp443), piece6(0, 1), piece6(16, 1), piece6(24, 0))).toHaveLength(3);
  });
});

describe('a packet is found', () => {
  test('by the identifier of an echo, before its translation and after it', () => {
    const pond = new Pond(blocks);
    const request = build(echo(client.address, origin.address, 77));
    for (const port of [77, 9_000])
      expect(seen(pond, ask({ protocol: 'icmp', ports: [port] }), request)).toHaveLength(1);
    expect(seen(pond, ask({ protocol: 'icmp', ports: [78] }), request)).toEqual([]);
    expect(packetText(request)).toBe(`icmp ${client.address} > ${origin.address} [echo request, identifier 77]`);
  });

  test.each([
    ['hop-by-hop and destination options', [0, 60]],
    ['a routing header, for which it is dropped', [43]],
  ])('behind %s', (_what, types) => {
    const extensions = types.map((type) => ({ type, body: type === 43 ? [0, 1, 0, 0, 0, 0] : [1, 4, 0, 0, 0, 0] }));
    const packet = build(udp(client6, origin6, { extensions }));
    expect(seen(new Pond(blocks), ask({ protocol: 'udp', ports: [client6.port] }), packet)).toEqual([
      expect.stringContaining(
        types.includes(43) ? 'dropped, routing_header' : 'forwarded as udp [2001:db8:d::10]:9000',
      ),
    ]);
  });

  test.each([
    ['nothing', new Uint8Array(0)],
    ['half a header', Uint8Array.of(0x45, 0, 0)],
    ['an error about an error about an error', error(error(error(new Uint8Array(40), leased), leased), leased)],
    [
      'extension headers without end',
      build(udp(client6, origin6, { extensions: [{ type: 0, body: [1] }] })).slice(0, 41),
    ],
  ])('or not, but never fails: %s', (_what, packet) => {
    const padded = new Uint8Array(Math.max(packet.length, 1));
    padded.set(packet);
    expect(() => seen(new Pond(blocks), ask({ ports: [9] }), padded)).not.toThrow();
    expect(packetText(packet)).toBeTruthy();
  });
});

describe('a trace is bounded', () => {
  const large = build(udp(client, origin, { data: new Uint8Array(1_000) }));
  const other = build(udp({ ...client, port: 1 }, origin, { data: new Uint8Array(1_000) }));

  test('by packets and by bytes, and says by which', () => {
    const pond = new Pond(blocks);
    const few = ask({}, { packets_max: 2 });
    expect(few.isOver(0)).toBe(false);
    expect(seen(pond, few, large, large, large)).toHaveLength(2);
    expect([few.isOver(1), few.endedBy]).toEqual([true, 'packets']);
    const short = ask({}, { bytes_max: 5_000 });
    // Each is kept twice: before and after.
    expect(seen(pond, short, large, large, large, large)).toHaveLength(3);
    expect([short.isOver(1), short.endedBy]).toEqual([true, 'bytes']);
    const late = ask({});
    expect([late.isOver(59_999), late.isOver(60_000), late.endedBy]).toEqual([false, true, 'time']);
  });

  test('keeps of each packet what was asked for, as it was and as it is', () => {
    const pond = new Pond([block(leased, 'udp', 9_000, 9_007)]);
    const trace = ask({ ports: [client.port] }, { snapBytes: 100 });
    seen(pond, trace, other, large);
    const [packet] = trace.found;
    expect(packet?.bytes).toBe(large.length);
    expect(packet?.before).toEqual(large.slice(0, 100));
    expect(packet?.after?.slice(28)).toEqual(large.slice(28, 100));
    expect(packetText(packet?.after ?? large)).toContain(leased);
  });

  test('copies of others’ packets no more than their headers', () => {
    const trace = ask({ ports: [9] });
    let copied = 0;
    class Watched extends Uint8Array {
      override slice(start = 0, end = this.length): Uint8Array<ArrayBuffer> {
        copied += end - start;
        return new Uint8Array(super.slice(start, end));
      }
      override subarray(start = 0, end = this.length): Uint8Array<ArrayBuffer> {
        copied += end - start;
        return new Uint8Array(this.buffer.slice(start, end));
      }
    }
    const buffer = new Watched(65_000);
    buffer.set(large);
    trace.before(buffer, large.length);
    trace.after(buffer, large.length, FORWARD, true, 1);
    expect(copied).toBeGreaterThan(0);
    expect(copied).toBeLessThan(64);
  });

  test('keeps no more than some of the fragments that wait for their first', () => {
    const pond = new Pond(blocks, { fragmentedPacketsMax: 1_000 });
    const trace = ask({ protocol: 'udp', ports: [443] }, { packets_max: 1_000 });
    const waiting = Array.from({ length: 80 }, (_, at) =>
      build(udp(client, origin, { identification: at, fragment: 0x2002, data: new Uint8Array(0) })),
    );
    seen(pond, trace, ...waiting);
    const firsts = Array.from({ length: 80 }, (_, at) =>
      build(udp(client, origin, { identification: at, fragment: 0x2000, data: new Uint8Array(8) })),
    );
    const told = seen(pond, trace, ...firsts);
    expect(told.filter((text) => text.includes('waits'))).toHaveLength(64);
    expect(told.filter((text) => text.includes('had waited'))).toHaveLength(80);
  });
});
