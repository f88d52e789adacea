import { describe, expect, it } from 'vitest';
import { answerTo, questionIn } from '../../demo/dns.ts';
import { collisions, flowsIn } from '../../demo/flows.ts';
import { packetsIn } from '../../demo/pcap.ts';

const bytesOf = (text: string) => new TextEncoder().encode(text);
const u16 = (n: number) => [n >> 8, n & 255];
const u32 = (n: number) => [...u16(n >>> 16), ...u16(n & 0xffff)];
const ip = (text: string) => text.split('.').map(Number);

type Sent = Readonly<{
  from: string;
  to: string;
  flags?: number;
  sequence?: number;
  protocol?: number;
  data?: Uint8Array;
  at?: number;
}>;
const [FIN, SYN, RST, ACK] = [1, 2, 4, 16];

/** An Ethernet frame, padded to its minimum of 60 bytes as a card would. */
function frame({ from, to, flags = 0, sequence = 1, protocol = 6, data = new Uint8Array() }: Sent): number[] {
  const [source = '', sourcePort = '0'] = from.split(':');
  const [destination = '', destinationPort = '0'] = to.split(':');
  const ports = [...u16(Number(sourcePort)), ...u16(Number(destinationPort))];
  const transport =
    protocol === 6
      ? [...ports, ...u32(sequence), ...u32(0), 0x50, flags, ...u16(1000), 0, 0, 0, 0, ...data]
      : protocol === 17
        ? [...ports, ...u16(8 + data.length), 0, 0, ...data]
        : [flags, 0, 0, 0, ...u16(Number(sourcePort)), 0, 1, ...data];
  const header = [
    0x45,
    0,
    ...u16(20 + transport.length),
    0,
    0,
    0,
    0,
    64,
    protocol,
    0,
    0,
    ...ip(source),
    ...ip(destination),
  ];
  const whole = [...new Array<number>(12).fill(2), 0x08, 0x00, ...header, ...transport];
  return [...whole, ...new Array<number>(Math.max(0, 60 - whole.length)).fill(0)];
}

const le32 = (n: number) => u32(n).reverse();
function capture(...sent: Sent[]): Uint8Array {
  const records = sent.flatMap((packet, i) => {
    const bytes = frame(packet);
    return [...le32(100), ...le32(packet.at ?? i), ...le32(bytes.length), ...le32(bytes.length), ...bytes];
  });
  return Uint8Array.from([
    ...le32(0xa1b2c3d4),
    2,
    0,
    4,
    0,
    ...le32(0),
    ...le32(0),
    ...le32(65_535),
    ...le32(1),
    ...records,
  ]);
}

const isOrigin = (address: string) => address.startsWith('203.0.113.');
const flowsOf = (...sent: Sent[]) => flowsIn(packetsIn(capture(...sent)), isOrigin);
const origin = '203.0.113.1:80';
const request = (who: string) => bytesOf(`GET /file?from=${who}; HTTP/1.1\r\n`);

describe('the capture at the origin', () => {
  it('reads what tcpdump writes', () => {
    const [packet] = packetsIn(
      capture({ from: '198.51.100.10:9000', to: origin, flags: SYN | ACK, sequence: 7, data: bytesOf('hi') }),
    );
    expect(packet).toMatchObject({
      at: 100_000_000,
      protocol: 'tcp',
      source: '198.51.100.10',
      sourcePort: 9_000,
      destination: '203.0.113.1',
      destinationPort: 80,
      tcp: { syn: true, ack: true, fin: false, rst: false, sequence: 7 },
    });
    expect(new TextDecoder().decode(packet?.payload)).toBe('hi');
  });

  it('takes no padding for payload', () => {
    const [packet] = packetsIn(capture({ from: '198.51.100.10:9000', to: origin, flags: ACK }));
    expect(packet?.payload).toHaveLength(0);
  });

  it('stops before a record that is not wholly written', () => {
    const whole = capture({ from: '198.51.100.10:1', to: origin }, { from: '198.51.100.10:2', to: origin });
    for (let cut = 0; cut < whole.length; cut++) expect([...packetsIn(whole.subarray(0, cut))].length).toBeLessThan(2);
    expect([...packetsIn(whole)]).toHaveLength(2);
  });

  it('puts both directions of a conversation together and finds who says to have sent it', () => {
    const name = Uint8Array.from([
      0,
      9,
      1,
      0,
      0,
      1,
      0,
      0,
      0,
      0,
      0,
      0,
      6,
      ...bytesOf('client'),
      4,
      ...bytesOf('demo'),
      0,
      0,
      1,
      0,
      1,
    ]);
    const flows = flowsOf(
      { from: '198.51.100.10:9000', to: origin, flags: SYN },
      { from: origin, to: '198.51.100.10:9000', flags: SYN | ACK },
      { from: '198.51.100.10:9000', to: origin, flags: ACK, data: request('haproxy') },
      { from: '198.51.100.10:9001', to: '203.0.113.1:53', protocol: 17, data: name },
      {
        from: '198.51.100.10:77',
        to: '203.0.113.1',
        protocol: 1,
        flags: 8,
        data: bytesOf('xxfrom=client;from=client;'),
      },
      { from: origin, to: '198.51.100.10:9000', flags: RST },
    );
    expect(flows).toMatchObject([
      {
        protocol: 'tcp',
        sourcePort: 9_000,
        senders: ['haproxy'],
        packetsOut: 2,
        packetsIn: 2,
        resetsOut: 0,
        resetsIn: 1,
        closed: true,
      },
      { protocol: 'udp', sourcePort: 9_001, senders: ['client'], packetsOut: 1 },
      { protocol: 'icmp', sourcePort: 77, destinationPort: 77, senders: ['client'], packetsOut: 1 },
    ]);
  });

  it('tells one conversation after another from a repeated SYN', () => {
    const from = '198.51.100.10:9000';
    const flows = flowsOf(
      { from, to: origin, flags: SYN, sequence: 1 },
      { from, to: origin, flags: SYN, sequence: 1 },
      { from, to: origin, flags: FIN | ACK, sequence: 5 },
      { from, to: origin, flags: SYN, sequence: 900 },
    );
    expect(flows.map(({ packetsOut }) => packetsOut)).toEqual([3, 1]);
    expect(collisions(flows)).toEqual([]);
  });

  it('sees two that have one 5-tuple at the same time', () => {
    const from = '198.51.100.10:9000';
    const begun = flowsOf(
      { from, to: origin, flags: SYN, sequence: 1 },
      { from, to: origin, flags: SYN, sequence: 900 },
    );
    expect(collisions(begun)).toEqual([
      'tcp 198.51.100.10:9000 > 203.0.113.1:80: a second conversation began before the first was over',
    ]);
    const mixed = flowsOf(
      { from, to: origin, flags: SYN, sequence: 1 },
      { from, to: origin, flags: ACK, data: request('client') },
      { from, to: origin, flags: ACK, data: request('haproxy') },
    );
    expect(collisions(mixed)).toEqual(['tcp 198.51.100.10:9000 > 203.0.113.1:80: client and haproxy']);
  });

  it('does not mind one port toward two destinations', () => {
    const from = '198.51.100.10:9000';
    expect(collisions(flowsOf({ from, to: origin, flags: SYN }, { from, to: '203.0.113.2:80', flags: SYN }))).toEqual(
      [],
    );
  });
});

describe('the name server of the demo', () => {
  const query = (type: number) =>
    Uint8Array.from([
      0x12,
      0x34,
      1,
      0,
      0,
      1,
      0,
      0,
      0,
      0,
      0,
      1,
      3,
      ...bytesOf('www'),
      4,
      ...bytesOf('demo'),
      0,
      0,
      type,
      0,
      1,
      0,
      0,
      41,
    ]);

  it('reads a question and stays calm at nonsense', () => {
    expect(questionIn(query(1))).toEqual({ name: 'www.demo', type: 1, end: 26 });
    for (let cut = 0; cut < 26; cut++) expect(questionIn(query(1).subarray(0, cut))).toBeUndefined();
  });

  it('answers with the identifier, the question and one record', () => {
    const asked = questionIn(query(1));
    const answer = asked && answerTo(query(1), asked, '203.0.113.53', '');
    expect([...(answer ?? [])]).toEqual([
      ...[0x12, 0x34, 0x85, 0x00, 0, 1, 0, 1, 0, 0, 0, 0, ...query(1).subarray(12, 26)],
      ...[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 203, 0, 113, 53],
    ]);
  });

  it('has no record of another type, and says so without an error', () => {
    const asked = questionIn(query(28));
    const answer = asked && answerTo(query(28), asked, '203.0.113.53', '');
    expect([...(answer ?? [])].slice(2, 8)).toEqual([0x85, 0x00, 0, 1, 0, 0]);
    expect(answer).toHaveLength(26);
  });
});
