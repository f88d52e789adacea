import type { ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { inNamespace, run } from '../../demo/commands.ts';
import { addresses, links, type Lab } from '../../demo/lab.ts';
import type { FishStats } from '../../src/agent/fish/operations.ts';
import type { Address } from '../../src/net/address.ts';
import type { Prefix } from '../../src/net/prefix.ts';
import { block } from '../support/fish.ts';
import {
  build,
  checksumProblem,
  hexOf,
  read,
  tcp,
  udp,
  type Endpoint,
  type PacketFields,
  type Seen,
} from '../support/packets.ts';
import { capture, type Capture } from './support/capture.ts';
import { firstWords, FishLab, fishMark } from './support/fish-lab.ts';
import { deleteNamespaces, namespaceOf } from './support/namespaces.ts';

/*
 * What the RFCs ask of a NAT, seen on the wire: real programs, or packets as no program sends them, and what tcpdump captures
 * where they arrive. The ends that the host has of its cables sum up what they send, so every captured packet has a real
 * checksum; the ends of the others offload, so that what comes in is large. Behind the origin there is one more hop:
 *
 *   client 100.96.0.2, .3 --- hc [host: fish] h0 --- o0 [origin 203.0.113.1, .2] f0 --- far 203.0.113.130
 *          2001:db8:c::2, ::3                           2001:db8:f::1                     2001:db8:e::2
 */
const [leased, otherLeased, leased6] = ['198.51.100.10', '198.51.100.11', '2001:db8:a::10'];
const [client, otherClient, client6] = [addresses.client, '100.96.0.3', '2001:db8:c::2'];
const [origin6, far, far6] = ['2001:db8:f::1', '203.0.113.130', '2001:db8:e::2'];
/** Of each protocol. One identifier is one socket's on the whole host, so that of echoes differs. */
const ofAddress = (address: string, identifier: number) => [
  block(address, 'tcp', 9_216, 9_247),
  block(address, 'udp', 9_216, 9_247),
  block(address, 'icmp', identifier, identifier + 31),
];
const settings = {
  clientPrefixes: ['100.96.0.0/24', '2001:db8:c::/64'] as Prefix[],
  icmpSource: addresses.hostToClient as Address,
  icmpSource6: '2001:db8:c::1' as Address,
};
/** All that is for a leased address is fish's here. */
const steering = `
table inet fish {
  chain steer {
    type filter hook prerouting priority raw
    iifname { "${links.hostToOrigin}", "${links.hostToClient}" } ip daddr { ${leased}, ${otherLeased} } meta mark set ${fishMark} notrack
    iifname { "${links.hostToOrigin}", "${links.hostToClient}" } ip6 daddr ${leased6} meta mark set ${fishMark} notrack
  }
}`;
const [ICMP, TCP, UDP] = [1, 6, 17];
const isIPv6Tcp = (bytes: Uint8Array) => (bytes[0] ?? 0) >>> 4 === 6 && read(bytes).protocol === 6;
const script = (name: string) => fileURLToPath(new URL(`support/${name}`, import.meta.url));

let fish: FishLab;
let lab: Lab;
let farNamespace: string;
let seenAtOrigin: Capture;
let seenAtClient: Capture;
const stats = () => fish.ask<FishStats>({ do: 'stats' });
const shell = (namespace: string, line: string) => fish.shell(namespace, line);
/** Puts packets on the wire of a namespace as they are. */
const send = (namespace: string, ...packets: readonly PacketFields[]) =>
  shell(namespace, `python3 ${script('send-packets.py')} ${packets.map((each) => hexOf(build(each))).join(' ')}`);

type Wanted = (packet: Seen, bytes: Uint8Array) => boolean;

/** What arrives while something is done, of what is looked for, as soon as it is `count` packets; each has a right checksum. */
async function arriving(
  watch: Capture,
  isWanted: Wanted,
  count: number,
  act: () => unknown,
): Promise<readonly Uint8Array[]> {
  const before = watch.packets().length;
  const found = () =>
    watch
      .packets()
      .slice(before)
      .map(({ bytes }) => bytes)
      .filter((bytes) => isWanted(read(bytes), bytes));
  await act();
  await expect.poll(() => found().length, { timeout: 20_000 }).toBeGreaterThanOrEqual(count);
  const packets = found();
  expect(packets.map(checksumProblem)).toEqual(packets.map(() => undefined));
  return packets;
}
const atOrigin = (isWanted: Wanted, count: number, act: () => unknown) => arriving(seenAtOrigin, isWanted, count, act);
const atClient = (isWanted: Wanted, count: number, act: () => unknown) => arriving(seenAtClient, isWanted, count, act);
const toPort = (port: number) => (packet: Seen) => packet.protocol !== ICMP && packet.destinationPort === port;
const fromPort = (port: number) => (packet: Seen) => packet.protocol !== ICMP && packet.sourcePort === port;
const sourceOf = (packet: Uint8Array | undefined): Endpoint => {
  const { source, sourcePort } = read(packet ?? new Uint8Array(40));
  return { address: source, port: sourcePort };
};
/** Sends a datagram out from this port of the client: where the origin sees it come from. */
async function mapped(from: Endpoint, to: Endpoint): Promise<Endpoint> {
  const [seen] = await atOrigin(
    (packet) => packet.destination === to.address && toPort(to.port)(packet),
    1,
    () => send(lab.client, udp(from, to)),
  );
  return sourceOf(seen);
}
/** What a child has said so far. */
function wordsOf(child: ChildProcess): () => string {
  let said = '';
  child.stdout?.on('data', (chunk: Buffer) => (said += chunk.toString()));
  return () => said;
}
const originAt = (port: number): Endpoint => ({ address: addresses.origin, port });
const clientAt = (port: number, address: string = client): Endpoint => ({ address, port });

beforeAll(async () => {
  fish = await FishLab.open('ff-behave', [leased, otherLeased], steering);
  lab = fish.namespaces;
  farNamespace = namespaceOf('ff-behave-far');
  deleteNamespaces(farNamespace);
  run('ip', 'netns', 'add', farNamespace);
  for (const namespace of [lab.client, lab.host, lab.origin, farNamespace])
    inNamespace(
      namespace,
      'sysctl',
      '-qw',
      ...['all', 'default'].flatMap((which) => [
        `net.ipv6.conf.${which}.disable_ipv6=0`,
        `net.ipv6.conf.${which}.accept_dad=0`,
        `net.ipv6.conf.${which}.forwarding=1`,
      ]),
      'net.ipv4.ip_forward=1',
      // Each hop of each trace is to answer.
      'net.ipv4.icmp_ratelimit=0',
      'net.ipv6.icmp.ratelimit=0',
    );
  inNamespace(lab.origin, 'ip', 'link', 'add', 'f0', 'type', 'veth', 'peer', 'name', 'f1', 'netns', farNamespace);
  const setUp: readonly (readonly [namespace: string, commands: string])[] = [
    [
      lab.client,
      `ip addr add ${otherClient}/24 dev c0
       ip addr add ${client6}/64 dev c0 nodad
       ip -6 route add default via 2001:db8:c::1`,
    ],
    [
      lab.host,
      `ip addr add 2001:db8:c::1/64 dev hc nodad
       ip addr add 2001:db8:1::1/64 dev h0 nodad
       ip addr add ${leased6}/128 dev lo nodad
       ip -6 route add default via 2001:db8:1::2
       ip -6 rule add fwmark ${fishMark} lookup 100 priority 10
       ip -6 rule add lookup local priority 11
       ip -6 rule del priority 0
       ip -6 rule add iif hc lookup 100 priority 12`,
    ],
    [
      lab.origin,
      `ip addr add 2001:db8:1::2/64 dev o0 nodad
       ip addr add ${origin6}/128 dev lo nodad
       ip addr add 203.0.113.129/30 dev f0
       ip addr add 2001:db8:e::1/64 dev f0 nodad
       ip link set f0 up
       ip -6 route add 2001:db8:a::/64 via 2001:db8:1::1`,
    ],
    [
      farNamespace,
      `ip addr add ${far}/30 dev f1
       ip addr add ${far6}/64 dev f1 nodad
       ip link set lo up
       ip link set f1 up
       ip route add default via 203.0.113.129
       ip -6 route add default via 2001:db8:e::1`,
    ],
  ];
  for (const [namespace, commands] of setUp) shell(namespace, `set -e\n${commands}`);
  for (const device of [links.hostToClient, links.hostToOrigin])
    inNamespace(lab.host, 'ethtool', '-K', device, 'tx', 'off');
  await start({ unsolicitedSyn: 'unreachable' });
  await fish.setBlocks(...ofAddress(leased, 9_216), ...ofAddress(leased6, 9_248));
  const all = `icmp or icmp6 or udp or (tcp and port 7000) or (ip6 and tcp and not src host ${leased6})`;
  [seenAtOrigin, seenAtClient] = await Promise.all([
    capture(lab.origin, links.origin, all),
    capture(lab.client, links.client, 'icmp or icmp6 or udp or (tcp and port 7000)'),
  ]);
  // The answer takes six seconds, in which the other tests run.
  send(lab.origin, tcp({ address: addresses.otherOrigin, port: 6_000 }, { address: leased, port: 9_247 }, 'S'));
});
afterAll(async () => {
  for (const watch of [seenAtOrigin, seenAtClient]) watch.stop();
  await fish.close();
  deleteNamespaces(farNamespace);
});

async function start(more: object): Promise<void> {
  await fish.startFish({ ...settings, ...more });
  shell(lab.host, 'ip -6 route replace default dev fishtun table 100');
}

describe('by default', () => {
  test.each([
    ['IPv4', addresses.origin, leased],
    ['IPv6', origin6, leased6],
  ])(
    'what one call sends of datagrams passes as one over %s, both ways, and arrives as many',
    async (_family, to, from) => {
      const [count, bytes] = [20, 1_200];
      const server = fish.spawn(lab.origin, [
        'python3',
        script('datagram-bursts.py'),
        'serve',
        to,
        '5005',
        `${count}`,
        `${bytes}`,
      ]);
      expect(await firstWords(server)).toContain('ready');
      const before = await stats();
      let said = '';
      let there: readonly Uint8Array[] = [];
      const back = await atClient(fromPort(5_005), count, async () => {
        there = await atOrigin(toPort(5_005), count, () => {
          said = shell(lab.client, `python3 ${script('datagram-bursts.py')} ask ${to} 5005 ${count} ${bytes}`);
        });
      });
      expect(said).toBe(`${count} [${bytes}] True`);
      const after = await stats();
      // One read and one write each way, not forty.
      expect([after.packetsOut - before.packetsOut, after.packetsIn - before.packetsIn]).toEqual([1, 1]);
      for (const packets of [there, back]) {
        expect(packets.map((packet) => packet.length)).toEqual(
          packets.map(() => bytes + 8 + (from.includes(':') ? 40 : 20)),
        );
        expect(new Set(packets.map((packet) => JSON.stringify(sourceOf(packet)))).size).toBe(1);
        expect(packets.map(checksumProblem)).toEqual(packets.map(() => undefined));
      }
      server.kill('SIGKILL');
    },
  );

  test('service, congestion marks and "don’t fragment" stay as they are, and the host is one hop', async () => {
    // Expedited forwarding with "congestion experienced", and "may be fragmented" besides "don't".
    const marked = { service: 0xbb, ttl: 33 };
    const fragment = [0x4000, 0];
    const out = fragment.map((each) => udp(clientAt(5_100), originAt(5_101), { ...marked, fragment: each }));
    const there = await atOrigin(toPort(5_101), 2, () => send(lab.client, ...out));
    const from = sourceOf(there[0]);
    const answers = fragment.map((each) => udp(originAt(5_101), from, { ...marked, fragment: each }));
    const back = await atClient(fromPort(5_101), 2, () => send(lab.origin, ...answers));
    for (const packets of [there, back])
      expect(packets.map((packet) => [packet[1], (packet[6] ?? 0) << 8, read(packet).ttl])).toEqual([
        [0xbb, 0x4000, 32],
        [0xbb, 0, 32],
      ]);
    const from6 = { address: client6, port: 5_102 };
    const to6 = { address: origin6, port: 5_103 };
    const [seen6] = await atOrigin(toPort(5_103), 1, () =>
      send(lab.client, udp(from6, to6, { ...marked, label: 0x12345 })),
    );
    // Version, class and label in one word.
    expect(hexOf((seen6 ?? new Uint8Array(4)).slice(0, 4))).toBe('6bb12345');
    expect(seen6?.[7]).toBe(32);
  });

  test('a UDP checksum that nobody summed stays zero, both ways', async () => {
    const bare = { withoutChecksum: true };
    const [there] = await atOrigin(toPort(5_201), 1, () =>
      send(lab.client, udp(clientAt(5_200), originAt(5_201), bare)),
    );
    const [back] = await atClient(fromPort(5_201), 1, () =>
      send(lab.origin, udp(originAt(5_201), sourceOf(there), bare)),
    );
    for (const packet of [there, back]) expect(hexOf((packet ?? new Uint8Array(28)).slice(26, 28))).toBe('0000');
  });

  test('two ends of TCP that both begin find each other (RFC 5382 REQ-2)', async () => {
    // The client's SYNs do not get through, so both have sent one before either hears of the other.
    const table = `table ip deaf { chain arrivals { type filter hook prerouting priority raw; tcp dport 7000 tcp flags & (syn | ack) == syn drop; }; }`;
    shell(lab.origin, `nft '${table}'`);
    const calling = fish.spawn(lab.client, [
      'python3',
      script('tcp-ends.py'),
      'meet',
      client,
      '7001',
      addresses.origin,
      '7000',
    ]);
    const heard = wordsOf(calling);
    const [syn] = await atOrigin(toPort(7_000), 1, () => {});
    const from = sourceOf(syn);
    const synsBack = await atClient(fromPort(7_000), 3, async () => {
      const answering = fish.spawn(lab.origin, [
        'python3',
        script('tcp-ends.py'),
        'meet',
        addresses.origin,
        '7000',
        from.address,
        `${from.port}`,
      ]);
      await expect.poll(wordsOf(answering), { timeout: 20_000 }).toContain(client);
    });
    await expect.poll(heard).toContain(addresses.origin);
    // A SYN alone, and nobody has reset anything.
    expect(synsBack[0]?.[33]).toBe(0x02);
    expect(synsBack.some((packet) => ((packet[33] ?? 0) & 0x04) !== 0)).toBe(false);
    shell(lab.origin, 'nft delete table ip deaf');
  });

  test('a UDP port is the same toward everybody, and anybody may answer (RFC 4787 REQ-1, REQ-8)', async () => {
    const other: Endpoint = { address: addresses.otherOrigin, port: 5_302 };
    const from = await mapped(clientAt(5_300), originAt(5_301));
    expect(await mapped(clientAt(5_300), other)).toEqual(from);
    // Even ports have even ones.
    expect(from.port % 2).toBe(0);
    const stranger: Endpoint = { address: addresses.otherOrigin, port: 5_399 };
    const [let_in] = await atClient(fromPort(5_399), 1, () => send(lab.origin, udp(stranger, from)));
    expect(read(let_in ?? new Uint8Array(28))).toMatchObject({ destination: client, destinationPort: 5_300 });
  });

  test('two clients reach each other by their leased ports, as anybody would, and the host is one hop', async () => {
    const [first, second] = [clientAt(5_400), clientAt(5_401, otherClient)];
    const [seenFirst, seenSecond] = [await mapped(first, originAt(5_402)), await mapped(second, originAt(5_402))];
    expect(seenFirst).not.toEqual(seenSecond);
    const [got] = await atClient(
      (packet) => packet.destination === otherClient,
      1,
      () => send(lab.client, udp(first, seenSecond, { ttl: 33 })),
    );
    expect(read(got ?? new Uint8Array(28))).toEqual({
      protocol: 17,
      source: seenFirst.address,
      sourcePort: seenFirst.port,
      destination: otherClient,
      destinationPort: 5_401,
      ttl: 32,
    });
  });

  test.each([
    ['datagrams', ''],
    ['echoes', '-I'],
    ['TCP', '-T -p 80'],
  ])('a trace by %s shows every hop over both families, fish’s host as one', (_what, how) => {
    const hops = (family: string, to: string) =>
      [...shell(lab.client, `traceroute ${family} ${how} -n -q 1 -w 5 -m 6 ${to}`).matchAll(/^ *\d+ +(\S+)/gm)].map(
        ([, hop]) => hop,
      );
    expect(hops('-4', far)).toEqual([addresses.hostToClient, addresses.originLink, far]);
    expect(hops('-6', far6)).toEqual(['2001:db8:c::1', '2001:db8:1::2', far6]);
  });

  test.each([
    ['IPv4', '-4', addresses.hostToClient, '203.0.113.200'],
    ['IPv6', '-6', '2001:db8:c::1', '2001:db8:e::200'],
  ])(
    'what the host itself says of a packet that fish sent, the client hears: over %s',
    async (_family, ip, host, nowhere) => {
      const source = ip === '-4' ? client : client6;
      shell(lab.host, `ip ${ip} route add unreachable ${nowhere}`);
      const quotedIn = (bytes: Uint8Array) => bytes.slice(ip === '-4' ? 28 : 48);
      const isError = ({ protocol, source: from }: Seen, bytes: Uint8Array) =>
        protocol !== UDP && protocol !== TCP && from === host && read(quotedIn(bytes)).destinationPort === 5_501;
      const [heard] = await atClient(isError, 1, () =>
        send(lab.client, udp({ address: source, port: 5_500 }, { address: nowhere, port: 5_501 })),
      );
      expect(read(quotedIn(heard ?? new Uint8Array(100)))).toMatchObject({
        source,
        sourcePort: 5_500,
        destination: nowhere,
      });
      expect((await stats()).hostErrorsRelayed).toBeGreaterThan(0);
      shell(lab.host, `ip ${ip} route del unreachable ${nowhere}`);
    },
  );

  test('iperf3 over IPv6 moves tens of megabytes, up and down, and all of it comes from the leased address', async () => {
    fish.spawn(lab.origin, ['iperf3', '-s', '-B', origin6]);
    await expect.poll(() => shell(lab.origin, 'ss -Htln6 sport = 5201')).not.toBe('');
    const before = await stats();
    for (const way of ['', '-R']) {
      const { end } = JSON.parse(shell(lab.client, `iperf3 -6 -c ${origin6} -n 20M -P 2 -J ${way}`)) as {
        end: Record<'sum_sent' | 'sum_received', { bytes: number }>;
      };
      // It does not wait for the last of what is on its way.
      expect(end.sum_sent.bytes).toBeGreaterThanOrEqual(20 * 2 ** 20);
      expect(end.sum_received.bytes).toBeGreaterThan(10 * 2 ** 20);
    }
    const after = await stats();
    expect(after.bytesOut - before.bytesOut).toBeGreaterThan(10 * 2 ** 20);
    expect(after.bytesIn - before.bytesIn).toBeGreaterThan(10 * 2 ** 20);
    expect(seenAtOrigin.packets().filter(({ bytes }) => isIPv6Tcp(bytes))).toEqual([]);
  });

  test('a SYN that nobody waits for is answered after six seconds, where that is wanted (RFC 5382 REQ-4)', async () => {
    // Of what else comes to the origin by ICMP nothing is about TCP.
    const answers = () =>
      seenAtOrigin.packets().filter(({ bytes }) => read(bytes).protocol === ICMP && bytes[20] === 3 && bytes[37] === 6);
    await expect.poll(() => answers().length, { timeout: 20_000 }).toBe(1);
    const [answer] = answers();
    const bytes = answer?.bytes ?? new Uint8Array(48);
    // Port unreachable, about the SYN as it was sent.
    expect(bytes[21]).toBe(3);
    expect(read(bytes)).toMatchObject({ source: leased, destination: addresses.otherOrigin });
    expect(read(bytes.slice(28))).toMatchObject({
      source: addresses.otherOrigin,
      sourcePort: 6_000,
      destinationPort: 9_247,
    });
  });
});

describe('where the settings say so', () => {
  const blocksOf = (address: string, identifier: number, last: number) => [
    block(address, 'tcp', 9_216, 9_247),
    block(address, 'udp', 9_216, last),
    block(address, 'icmp', identifier, identifier + 31),
  ];
  beforeAll(async () => {
    await fish.ask({ do: 'stop' });
    await start({
      udpMapping: 'address_and_port_dependent',
      udpFiltering: 'address_and_port_dependent',
      addressPooling: 'paired_strict',
      tcpFlowsPerClientMax: 3,
      clientShare: 1,
      udpPortParity: false,
    });
    await fish.setBlocks(...blocksOf(leased, 9_216, 9_219), ...blocksOf(otherLeased, 9_280, 9_219));
  });

  test('a UDP port has one of its own toward each remote, and only that one may answer', async () => {
    const remotes = Array.from({ length: 12 }, (_, each) => originAt(5_620 + each));
    const there = await atOrigin(
      ({ protocol, destinationPort }) => protocol === UDP && destinationPort >= 5_620,
      remotes.length,
      () => send(lab.client, ...remotes.map((remote) => udp(clientAt(5_600), remote))),
    );
    // Of four ports each has one of its own, which may well be another's: that all are the same is not to be believed.
    expect(new Set(there.map((packet) => sourceOf(packet).port)).size).toBeGreaterThan(1);
    const [seen] = there;
    const [asked, from] = [originAt(read(seen ?? new Uint8Array(28)).destinationPort), sourceOf(seen)];
    const { drops } = await stats();
    const stranger = { address: addresses.otherOrigin, port: asked.port };
    const got = await atClient(
      (packet) => packet.protocol === UDP && packet.destinationPort === 5_600,
      1,
      () => send(lab.origin, udp(originAt(5_699), from), udp(stranger, from), udp(asked, from)),
    );
    // What stood before it in the queue was not let in.
    expect(got.map(sourceOf)).toEqual([asked]);
    expect((await stats()).drops.no_flow - drops.no_flow).toBe(2);
  });

  test('all that a client has is one leased address, and who finds no port there is told (RFC 4787 REQ-2)', async () => {
    const flows = [0, 1, 2, 3, 4].map((each) => udp(clientAt(5_700 + each, otherClient), originAt(5_710)));
    let there: readonly Uint8Array[] = [];
    const [refusal] = await atClient(
      ({ protocol, destination }, bytes) => protocol === ICMP && destination === otherClient && bytes[21] === 13,
      1,
      async () => {
        there = await atOrigin(toPort(5_710), 4, () => send(lab.client, ...flows));
      },
    );
    expect((await stats()).drops.no_port).toBe(1);
    const used = new Set(there.map((packet) => sourceOf(packet).address));
    expect([...used]).toHaveLength(1);
    // An echo and a connection leave from there, too.
    const echoes = await atOrigin(
      ({ protocol }, bytes) => protocol === ICMP && bytes[20] === 8,
      1,
      () => shell(lab.client, `ping -c 1 -W 20 -I ${otherClient} ${addresses.origin}`),
    );
    expect(echoes.map((packet) => read(packet).source)).toEqual([...used]);
    const [why] = await arriving(seenAtOrigin, toPort(7_000), 1, () =>
      send(lab.client, tcp(clientAt(5_720, otherClient), originAt(7_000), 'S')),
    );
    expect(sourceOf(why).address).toBe([...used][0]);
    // Communication administratively prohibited, about the datagram that was sent.
    const bytes = refusal ?? new Uint8Array(48);
    expect([bytes[20], bytes[21]]).toEqual([3, 13]);
    expect(read(bytes.slice(28))).toMatchObject({ source: otherClient, destination: addresses.origin });
  });

  test('a client has no more connections than it may, and others have theirs (RFC 6888 REQ-4)', async () => {
    const server = fish.spawn(lab.origin, ['python3', script('tcp-ends.py'), 'listen', addresses.origin, '7100']);
    expect(await firstWords(server)).toContain('ready');
    const connect = (from: string, count: number) =>
      shell(lab.client, `python3 ${script('tcp-ends.py')} many ${addresses.origin} 7100 ${count} ${from}`).split(' ');
    expect(connect(client, 5)).toEqual(['connected', 'connected', 'connected', 'EHOSTUNREACH', 'EHOSTUNREACH']);
    // One has been begun by the test before.
    expect(connect(otherClient, 2)).toEqual(['connected', 'connected']);
    expect((await stats()).drops.client_flows).toBeGreaterThanOrEqual(2);
  });
});
