import { describe, expect, it } from 'vitest';
import type { TraceFilter } from '../../../src/fish/log/packet-trace.ts';
import { KernelSteps, mergeSteps } from '../../../src/agent/trace/kernel-steps.ts';
import { traceTable } from '../../../src/agent/trace/kernel-table.ts';
import { KernelTracer, type KernelTracing } from '../../../src/agent/trace/kernel-tracer.ts';
import { parseTraceLine } from '../../../src/agent/trace/nft-trace.ts';
import { tracePage } from '../../../src/agent/trace/trace-page.ts';
import type { Address } from '../../../src/net/address.ts';

/* Lines as nftables 1.0.6 wrote them, ends and all. */
const fields =
  'ip saddr 203.0.113.1 ip daddr 203.0.113.2 ip dscp cs0 ip ecn not-ect ip ttl 64 ip id 9193 ip protocol udp ip length 31 udp sport 44321 udp dport 9 udp length 11 @th,64,24 0x68690a ';
const arrival =
  'iif "up0" ether saddr ba:98:cf:9f:ef:8a ether daddr e2:a9:c9:23:91:20 ip saddr 203.0.113.2 ip daddr 203.0.113.1 ip dscp cs0 ip ecn not-ect ip ttl 64 ip id 3060';
const syn = 'ip length 60 tcp sport 49016 tcp dport 80 tcp flags == syn tcp window 64240 ';
const dropped = [
  `trace id cb3274a4 inet fishery_trace output packet: oif "up0" ${fields}`,
  'trace id cb3274a4 inet fishery_trace output rule ip daddr 203.0.113.2 meta nftrace set 1 (verdict continue)',
  'trace id cb3274a4 inet fishery_trace output policy accept ',
  `trace id cb3274a4 inet fishery guard packet: oif "up0" ${fields}`,
  'trace id cb3274a4 inet fishery guard rule udp dport 9 goto judge (verdict goto judge)',
  'trace id cb3274a4 inet fishery judge rule counter name "guard_uid" drop (verdict drop)',
];
const byPolicy = [
  `trace id 07e31f28 inet fishery_trace prerouting packet: ${arrival} ip protocol tcp ${syn}`,
  'trace id 07e31f28 inet fishery_trace prerouting policy accept ',
  `trace id 07e31f28 ip filter INPUT packet: ${arrival} ${syn}`,
  'trace id 07e31f28 ip filter INPUT rule jump sub (verdict jump sub)',
  'trace id 07e31f28 ip filter sub rule meta mark set 0x00000007 (verdict continue)',
  'trace id 07e31f28 ip filter INPUT policy drop meta mark 0x00000007 ',
];

const heard = (lines: readonly string[], packets_max = 10) => {
  const steps = new KernelSteps(packets_max);
  for (const [index, line] of lines.entries()) steps.hear(line, index);
  return steps;
};
const texts = (lines: readonly string[]) => heard(lines).found.map(({ text }) => text);

describe('a line of nft monitor trace', () => {
  it('is a packet with its devices, a rule with its verdict, or a policy', () => {
    expect(dropped.concat(byPolicy[5]!).map((line) => parseTraceLine(line))).toMatchObject([
      {
        id: 'cb3274a4',
        table: 'inet fishery_trace',
        chain: 'output',
        kind: 'packet',
        iif: null,
        oif: 'up0',
        packet: { text: 'udp 203.0.113.1:44321 > 203.0.113.2:9', bytes: 31 },
      },
      { kind: 'rule', rule: 'ip daddr 203.0.113.2 meta nftrace set 1', verdict: 'continue' },
      { kind: 'policy', verdict: 'accept' },
      { table: 'inet fishery', chain: 'guard', kind: 'packet' },
      { kind: 'rule', verdict: 'goto judge' },
      { chain: 'judge', kind: 'rule', rule: 'counter name "guard_uid" drop', verdict: 'drop' },
      { table: 'ip filter', chain: 'INPUT', kind: 'policy', verdict: 'drop' },
    ]);
  });

  it.each([
    [`${arrival} ${syn}`, 'tcp 203.0.113.2:49016 > 203.0.113.1:80 [S]', 60],
    [`${arrival} ${syn.replace('syn', '0x12')}`, 'tcp 203.0.113.2:49016 > 203.0.113.1:80 [SA]', 60],
    [`${arrival} ${syn.replace('syn', '0x14')}`, 'tcp 203.0.113.2:49016 > 203.0.113.1:80 [RA]', 60],
    [`${arrival} ${syn.replace('syn', 'fin,ack')}`, 'tcp 203.0.113.2:49016 > 203.0.113.1:80 [FA]', 60],
    [
      'iif "up0" ip saddr 203.0.113.2 ip daddr 203.0.113.1 ip length 59 icmp type destination-unreachable icmp code port-unreachable icmp id 0 icmp sequence 0 @th,64,96 0x4500001f0edc40004011b3ed ',
      'icmp 203.0.113.2 > 203.0.113.1 destination-unreachable',
      59,
    ],
    [
      'iif "up0" ip6 saddr 2001:db8::2 ip6 daddr 2001:db8::1 ip6 dscp cs0 ip6 ecn not-ect ip6 hoplimit 64 ip6 flowlabel 129290 ip6 nexthdr ipv6-icmp ip6 length 64 icmpv6 type echo-request icmpv6 code no-route icmpv6 parameter-problem 1301413889 @th,64,96 0xd8 ',
      'icmpv6 2001:db8::2 > 2001:db8::1 echo-request',
      104,
    ],
  ])('says of a packet what fish says: %#', (packet, text, bytes) => {
    expect(parseTraceLine(`trace id 1f inet a b packet: ${packet}`)).toMatchObject({ packet: { text, bytes } });
  });

  it('is nothing else, whatever nft says, and not without end', () => {
    expect(parseTraceLine('# ERROR: We lost some netlink events!')).toBeUndefined();
    expect(parseTraceLine('')).toBeUndefined();
    expect(parseTraceLine('trace id 1f inet a b rule cut off (verd')).toBeUndefined();
    expect(parseTraceLine(`${dropped[0]}${'x'.repeat(10_000)}`)).toBeUndefined();
  });
});

describe("the kernel's steps", () => {
  it('tell where a packet began, and why the guard dropped it', () => {
    expect(texts(dropped)).toEqual([
      'udp 203.0.113.1:44321 > 203.0.113.2:9, 31 bytes: sent by this host toward up0',
      'udp 203.0.113.1:44321 > 203.0.113.2:9, 31 bytes: guard: dropped, guard_uid: a socket of another user than the one who leases the port',
    ]);
    expect(heard(dropped).found.map(({ verdict }) => verdict)).toEqual(['seen', 'guard_uid']);
  });

  it('tell of the steering what goes to fish, once, and of the rest what the guard says', () => {
    const start = dropped[0]!.replace('fishery_trace output', 'fishery_trace wanted2');
    const line = (chain: string, what: string) => `trace id cb3274a4 inet fishery ${chain} ${what}`;
    const steered = [
      start,
      dropped[3]!.replace('guard', 'steer'),
      line('steer4_udp', 'rule counter name "steer_block" goto to_fish (verdict goto to_fish)'),
      line('to_fish', 'rule meta mark set meta mark & 0xffffff00 | 0x0000002a notrack accept (verdict accept)'),
      line('steer', 'policy accept'),
      dropped[3]!,
      line('guard', 'policy accept'),
    ];
    expect(texts(steered).map((text) => text.split('bytes: ')[1])).toEqual([
      'sent by this host toward up0',
      'steer: to fish, steer_block: fish has the block to itself',
      'guard: nothing against it',
    ]);
  });

  it("tell of others' tables the chain, the rule or the policy, and nothing where a rule only leads on", () => {
    const rejected = 'trace id 07e31f28 ip filter INPUT rule udp dport 7 reject (verdict drop)';
    expect(texts([...byPolicy, rejected])).toEqual([
      'tcp 203.0.113.2:49016 > 203.0.113.1:80 [S], 60 bytes: arrived by up0',
      'tcp 203.0.113.2:49016 > 203.0.113.1:80 [S], 60 bytes: ip filter INPUT: dropped by its policy',
      'tcp 203.0.113.2:49016 > 203.0.113.1:80 [S], 60 bytes: ip filter INPUT: dropped by the rule: udp dport 7 reject',
    ]);
  });

  it("leave out what somebody else's rule traces, and what is one packet too many", () => {
    expect(texts(byPolicy.slice(2))).toEqual([]);
    const one = heard([...dropped, ...byPolicy], 1);
    expect(one.isFull).toBe(true);
    expect(one.found).toHaveLength(2);
  });

  it("are merged with fish's by time, in their order where it is the same", () => {
    const step = (by: 'fish' | 'kernel', at: number) => ({ at, by, verdict: '', text: '' });
    const merged = mergeSteps([step('fish', 2), step('fish', 5)], [step('kernel', 1), step('kernel', 2)]);
    expect(merged.map(({ by, at }) => `${by} ${at}`)).toEqual(['kernel 1', 'fish 2', 'kernel 2', 'fish 5']);
  });
});

describe('the table of a trace', () => {
  it('asks for the protocol, each address at either end and the port at either, and bounds what is traced', () => {
    const text = traceTable({ protocol: 'icmp', addresses: ['100.64.0.2', '2001:db8::1'] as Address[], ports: [53] });
    expect(text.split('\n').map((line) => line.trim())).toEqual(
      expect.arrayContaining([
        'meta l4proto { 1, 58 } goto wanted1',
        'ip saddr 100.64.0.2 goto wanted2',
        'ip daddr 100.64.0.2 goto wanted2',
        'ip6 saddr 2001:db8::1 goto wanted3',
        'ip6 daddr 2001:db8::1 goto wanted3',
        'meta l4proto { tcp, udp } th sport 53 goto found',
        'meta l4proto { tcp, udp } th dport 53 goto found',
        'icmp type { echo-reply, echo-request } icmp id 53 goto found',
        'limit rate 100/second burst 100 packets meta nftrace set 1',
        'type filter hook prerouting priority -350; policy accept;',
      ]),
    );
    // An error quotes one family, and these are of two.
    expect(text).not.toContain('quoted');
  });

  it('asks the same of the packet that an error quotes, where its ports may be', () => {
    const text = traceTable({ protocol: 'udp', addresses: ['203.0.113.1'] as Address[], ports: [53] });
    for (const line of [
      'icmp type { destination-unreachable, time-exceeded, parameter-problem } jump quoted4_0',
      '@th,160,32 0xcb007101 goto quoted4_1',
      '@th,192,32 0xcb007101 goto quoted4_1',
      '@th,64,8 0x45 @th,136,8 17 @th,224,16 53 goto found',
      '@th,64,8 0x46 @th,136,8 17 @th,272,16 53 goto found',
    ])
      expect(text).toContain(`    ${line}\n`);
    const ofEchoes = traceTable({ protocol: 'icmp', addresses: ['2001:db8::1'] as Address[], ports: [7] });
    expect(ofEchoes).toContain('@th,112,8 58 @th,416,16 7 goto found\n');
    expect(traceTable({ protocol: 'tcp', addresses: [], ports: [] })).toContain(
      '@th,64,8 0x45 @th,136,8 6 goto found\n',
    );
  });
});

describe('a trace in the kernel', () => {
  const all: TraceFilter = { addresses: [], ports: [] };
  const kernel = (refusal?: string) => {
    const state = { isLoaded: false, isHeard: false };
    let say: (line: string) => void = () => {};
    const tracing: KernelTracing = {
      load: () => {
        if (refusal !== undefined) return Promise.reject(new Error(refusal));
        state.isLoaded = true;
        return Promise.resolve();
      },
      remove: () => {
        state.isLoaded = false;
      },
      listen: (_seconds, onLine) => {
        [say, state.isHeard] = [onLine, true];
        return Promise.resolve({
          stop: () => {
            state.isHeard = false;
          },
          ended: new Promise<null>(() => {}),
        });
      },
    };
    return { state, tracer: new KernelTracer(tracing, () => 1), say: (line: string) => say(line) };
  };

  it('is one at a time, and leaves nothing when it ends, or when the agent does', async () => {
    const { state, tracer, say } = kernel();
    const trace = await tracer.begin(all, 10, 1);
    expect(await tracer.begin(all, 10, 1)).toBeUndefined();
    for (const line of dropped) say(line);
    expect(state).toEqual({ isLoaded: true, isHeard: true });
    expect(trace?.end()).toMatchObject({ steps: [{ by: 'kernel', at: 1 }, { verdict: 'guard_uid' }], problem: null });
    expect(state).toEqual({ isLoaded: false, isHeard: false });
    expect(await tracer.begin(all, 10, 1)).toBeDefined();
    tracer.close();
    expect(state).toEqual({ isLoaded: false, isHeard: false });
  });

  it('says what the kernel refused, and is over then', async () => {
    const { tracer } = kernel('nft is not on this host');
    expect((await tracer.begin(all, 10, 1))?.end()).toEqual({ steps: [], problem: 'nft is not on this host' });
    expect(await tracer.begin(all, 10, 1)).toBeDefined();
  });

  it('is told without fish, too, and ends when whoever asked is gone', async () => {
    const { state, tracer, say } = kernel();
    const asked = (query: string, signal = new AbortController().signal) =>
      tracePage({ fish: undefined, kernel: tracer }, new URLSearchParams(query), signal);
    const answer = asked('packets=1&seconds=60');
    await expect.poll(() => state.isHeard).toBe(true);
    expect(await asked('')).toMatchObject({ code: 409 });
    for (const line of dropped) say(line);
    expect(await answer).toMatchObject({ code: 200, body: { steps: [{}, { verdict: 'guard_uid' }] } });
    const gone = new AbortController();
    const given = asked('seconds=60', gone.signal);
    await expect.poll(() => state.isHeard).toBe(true);
    gone.abort();
    expect(await given).toMatchObject({ code: 200 });
    expect(state).toEqual({ isLoaded: false, isHeard: false });
  });
});
