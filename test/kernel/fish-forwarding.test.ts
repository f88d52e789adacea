import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { inNamespace } from '../../demo/commands.ts';
import { addresses, links, type Lab } from '../../demo/lab.ts';
import type { FishStats } from '../../src/agent/fish/operations.ts';
import type { FlowList } from '../../src/fish/log/flow-views.ts';
import type { LeasedBlock } from '../../src/fish/ports/blocks.ts';
import type { FlowAnswer } from '../../src/fish/log/flow-log.ts';
import { cableEnds } from '../support/cables.ts';
import { block, shared } from '../support/fish.ts';
import type { Address } from '../../src/net/address.ts';
import type { Prefix } from '../../src/net/prefix.ts';
import { firstWords, FishLab, fishMark } from './support/fish-lab.ts';
import type { FishCommand } from './support/fish-process.ts';

const fileBytes = 50_000_000;
const largeDatagramsScript = fileURLToPath(new URL('support/large-datagrams.py', import.meta.url));
const url = `http://${addresses.origin}`;
const [sharedAddress, ownAddress] = ['198.51.100.10', '198.51.100.11'];
const blocks: LeasedBlock[] = [
  block(sharedAddress, 'tcp', 9_088, 9_215, { ...shared('late'), lease: 'lease-shared' }),
  // Other ports than those of the shared block: a bound socket shuts its port to late binding on every address.
  block(ownAddress, 'tcp', 9_216, 9_343, { lease: 'lease-own' }),
  block(sharedAddress, 'udp', 9_088, 9_215, { lease: 'lease-udp' }),
  block(sharedAddress, 'icmp', 9_088, 9_215, { lease: 'lease-icmp' }),
];
const [sharedTcp, ownTcp, ...others] = blocks as [LeasedBlock, LeasedBlock, ...LeasedBlock[]];

const mark = fishMark;
const steering = `
table inet fish {
  chain steer {
    type filter hook prerouting priority raw
    iifname "${links.hostToOrigin}" socket mark ${mark} meta mark set ${mark} notrack
    iifname "${links.hostToOrigin}" ip daddr ${ownAddress} tcp dport & 0xff80 == 9216 meta mark set ${mark} notrack
    # Without ports: nothing here puts them together first, as the agent has the kernel do.
    iifname "${links.hostToOrigin}" ip daddr ${sharedAddress} ip frag-off & 0x1fff != 0 meta mark set ${mark} notrack
    iifname "${links.hostToOrigin}" ip daddr ${sharedAddress} udp dport & 0xff80 == 9088 meta mark set ${mark} notrack
    iifname "${links.hostToOrigin}" ip daddr ${sharedAddress} icmp type echo-reply @th,32,16 & 0xff80 == 9088 meta mark set ${mark} notrack
  }
}
`;

let lab: Lab;
let fishLab: FishLab;
const ask = <Answer>(command: FishCommand) => fishLab.ask<Answer>(command);
const stats = () => ask<FishStats>({ do: 'stats' });
const setBlocks = (...wanted: LeasedBlock[]) => fishLab.setBlocks(...wanted);

const asClient = (...command: string[]) => inNamespace(lab.client, ...command);
/** As a child process, so that the answer of fish can be awaited meanwhile. */
const curl = (...args: string[]) => asClient('curl', '-sS', '--max-time', '60', ...args);
const shell = (namespace: string, script: string) => fishLab.shell(namespace, script);
const isLeased = (source: string) => {
  const [address, port] = source.split(':');
  return blocks.some(
    ({ address: own, ports }) => own === address && ports.first <= Number(port) && Number(port) <= ports.last,
  );
};

beforeAll(async () => {
  fishLab = await FishLab.open('ff-fwd', [sharedAddress, ownAddress], steering);
  lab = fishLab.namespaces;
  const offloads = await fishLab.startFish({
    clientPrefixes: ['100.96.0.0/24' as Prefix],
    icmpSource: addresses.hostToClient as Address,
  });
  expect(offloads).toEqual(['csum', 'tso4', 'tso6', 'uso4', 'uso6']);
  // Whatever reaches the origin from another source than the leased ones is counted there.
  shell(
    lab.origin,
    `nft -f - <<'END'
table ip watch {
  chain arrivals {
    type filter hook prerouting priority raw
    iifname "${links.origin}" ip saddr != { ${sharedAddress}, ${ownAddress} } counter
  }
}
END`,
  );
  const origin = fishLab.start(lab.origin, 'fish-origin.ts', [addresses.origin, String(fileBytes)], 'pipe');
  expect(await firstWords(origin)).toContain('ready');
});

afterAll(() => fishLab.close());

const strangersAtOrigin = () =>
  Number(/packets (\d+)/.exec(inNamespace(lab.origin, 'nft', 'list', 'table', 'ip', 'watch'))?.[1]);
/** Segments and datagrams that a host has thrown away for their checksum. */
function checksumErrors(namespace: string): number {
  const counters = shell(namespace, 'nstat -asz TcpInCsumErrors UdpInCsumErrors IcmpInCsumErrors IcmpInErrors');
  return [...counters.matchAll(/^\S+\s+(\d+)/gm)].reduce((sum, [, count]) => sum + Number(count), 0);
}

describe.each([
  ['a shared block, each flow behind a placeholder', [sharedTcp], sharedAddress],
  ['an exclusive block, its ports held by bound sockets', [ownTcp], ownAddress],
])('TCP from %s', (_what, tcpBlocks, source) => {
  beforeAll(() => setBlocks(...tcpBlocks, ...others));

  test('carries 50 MB down and up, unharmed', async () => {
    const before = await stats();
    const [hash] = shell(lab.client, `curl -sS --max-time 60 ${url}/file | sha256sum`).split(' ');
    expect(hash).toBe(curl(`${url}/sha256`));
    const upload = shell(
      lab.client,
      `curl -sS --max-time 60 ${url}/file | curl -sS --max-time 60 -X POST --data-binary @- ${url}/`,
    );
    const received = JSON.parse(upload) as { sha256: string; source: string };
    expect(received.sha256).toBe(hash);
    expect(isLeased(received.source)).toBe(true);
    expect(received.source.startsWith(`${source}:`)).toBe(true);
    const after = await stats();
    expect(after.bytesIn - before.bytesIn).toBeGreaterThan(2 * fileBytes);
    expect(after.bytesOut - before.bytesOut).toBeGreaterThan(fileBytes);
    expect(after.writesFailed).toBe(before.writesFailed);
    // Offload: far fewer packets than segments.
    expect(after.packetsIn - before.packetsIn).toBeLessThan((2 * fileBytes) / 1_448);
  });

  test('ends with the connection, and tells afterwards whose it was', async () => {
    const beforeUs = Date.now() * 1_000;
    const [address = '', port = ''] = curl(`${url}/`).split(':');
    await expect.poll(async () => (await stats()).flowsLive).toBe(0);
    expect((await stats()).flowsEnded.finished).toBeGreaterThan(0);
    const query = {
      protocol: 'tcp',
      address: address as never,
      port: Number(port),
      remote: addresses.origin as never,
      remotePort: 80,
    } as const;
    const { flows } = await ask<FlowList>({ do: 'flows' });
    const openedAt = Math.max(...flows.map((flow) => flow.openedAt));
    expect(openedAt).toBeGreaterThan(beforeUs - 10_000);
    expect(await ask<FlowAnswer>({ do: 'queryFlowLog', query: { ...query, at: openedAt } })).toMatchObject({
      verdict: 'match',
      matches: [{ client: addresses.client, lease: tcpBlocks[0]?.lease, ending: 'finished' }],
    });
  });

  test('holds a socket in the kernel for each flow of a shared block, none for others, and none when the lease has ended', async () => {
    const held = () =>
      shell(lab.host, `ss -Htn state syn-sent | awk '{ print $3, $4 }' | sort`).split('\n').filter(Boolean);
    curl(`${url}/`);
    const { flows } = await ask<FlowList>({ do: 'flows' });
    const expected = flows
      .filter((flow) => flow.hasPlaceholder)
      .map((flow) => `${flow.address}:${flow.port} ${flow.remote}:${flow.remotePort}`);
    expect(held()).toEqual(expected.toSorted());
    expect(held().length > 0).toBe(tcpBlocks[0]?.mode === 'shared');
    await ask({ do: 'endLease', lease: tcpBlocks[0]!.lease });
    expect(held()).toEqual([]);
    expect((await stats()).placeholdersHeld).toBe(0);
    await setBlocks(...tcpBlocks, ...others);
    expect(isLeased(curl(`${url}/`))).toBe(true);
  });
});

describe('UDP and ping', () => {
  beforeAll(() => setBlocks(ownTcp, ...others));

  test('a datagram is answered, and every destination sees the same source', () => {
    const answer = (text: string) => shell(lab.client, `echo -n ${text} | nc -u -w1 -p 5353 ${addresses.origin} 53`);
    const [said, source = ''] = answer('hello').split(' ');
    expect(said).toBe('hello');
    expect(isLeased(source)).toBe(true);
    expect(answer('again')).toBe(`again ${source}`);
  });

  const largeDatagrams = (count: number, seconds: number, port = '53', how = '') =>
    shell(
      lab.client,
      `python3 ${largeDatagramsScript} ask ${addresses.origin} ${port} 60000 ${count} ${seconds} ${how}`,
    );
  const isCut = async () => {
    const { fragmentedPackets, fragmentsHeld } = await stats();
    return fragmentedPackets + fragmentsHeld > 0;
  };

  test('datagrams of 60 kB arrive whole and are answered, in fragments both ways', async () => {
    const before = await stats();
    expect(largeDatagrams(5, 20)).toBe('5 1');
    const after = await stats();
    expect(after.packetsOut - before.packetsOut).toBeGreaterThanOrEqual(5 * 40);
    expect(after.packetsIn - before.packetsIn).toBeGreaterThanOrEqual(5 * 40);
    expect(await isCut()).toBe(false);
  });

  test('and so they do when their fragments overtake each other on both ways', async () => {
    const server = fishLab.spawn(lab.origin, ['python3', largeDatagramsScript, 'serve', addresses.origin, '54']);
    expect(await firstWords(server)).toContain('ready');
    const before = await stats();
    expect(largeDatagrams(10, 20, '54', 'shuffled')).toBe('10 1');
    expect(await isCut()).toBe(false);
    // Of each datagram, on each way, half of the pieces on average come before the first.
    expect((await stats()).fragmentsHeldEver - before.fragmentsHeldEver).toBeGreaterThan(10);
    server.kill('SIGKILL');
  });

  test('a datagram without its first fragment is given up, and those after it fare as ever', async () => {
    const before = await stats();
    const table = `table netdev lossy {
  chain arrivals {
    type filter hook ingress device "${links.hostToClient}" priority -500
    ip frag-off & 0x3fff == 0x2000 counter drop
  }
}`;
    shell(lab.host, `nft -f - <<'END'\n${table}\nEND`);
    expect(largeDatagrams(2, 0.3)).toBe('0 0');
    shell(lab.host, 'nft delete table netdev lossy');
    expect(largeDatagrams(2, 20)).toBe('2 1');
    // Nobody but time ends the wait for what is lost.
    const { fragmentsHeld, fragmentedPackets, packetsOut } = await stats();
    expect(fragmentedPackets).toBe(2);
    expect(fragmentsHeld).toBeGreaterThanOrEqual(2 * 40);
    expect(packetsOut - before.packetsOut).toBeLessThan(3 * 45);
  });

  test('pings are answered, several at once', () => {
    const pings = shell(
      lab.client,
      `for i in 1 2 3; do ping -q -c 3 -i 0.2 -W 2 ${addresses.origin} & done; ping -q -c 2 -i 0.2 -W 2 ${addresses.otherOrigin}; wait`,
    );
    expect(
      [...pings.matchAll(/(\d) packets transmitted, (\d) received/g)]
        .map(([, sent, got]) => `${sent}/${got}`)
        .toSorted(),
    ).toEqual(['2/2', '3/3', '3/3', '3/3']);
  });
});

describe('links that lose packets and let them overtake each other', () => {
  // Loss of one in fifty on the way in from either side, and of those that are left one in thirty waits behind a link of
  // 8 Mbit/s while the others pass. Segments as they are on a wire, not the kernel's large ones.
  const lossOf = (name: string, device: string) =>
    `table netdev ${name} { chain loss { type filter hook ingress device "${device}" priority 0; numgen random mod 50 == 0 counter drop; }; }`;
  const overtaking = (device: string) =>
    `for offload in tso gso gro; do ethtool -K ${device} $offload off; done
     tc qdisc replace dev ${device} root handle 1: htb default 10
     tc class add dev ${device} parent 1: classid 1:10 htb rate 10gbit quantum 60000
     tc class add dev ${device} parent 1: classid 1:20 htb rate 8mbit
     nft 'table inet slow { chain out { type filter hook postrouting priority 0; numgen random mod 30 == 0 meta priority set 0x10020; }; }'`;
  const sides = () =>
    [
      [lab.client, links.client],
      [lab.origin, links.origin],
    ] as const;
  const statistic = (namespace: string, name: string) =>
    Number(/\s(\d+)\s/.exec(shell(namespace, `nstat -asz ${name} | grep ${name}`))?.[1]);

  beforeAll(async () => {
    await setBlocks(sharedTcp, ...others);
    shell(
      lab.host,
      `nft '${lossOf('fromclient', links.hostToClient)}'; nft '${lossOf('fromorigin', links.hostToOrigin)}'`,
    );
    for (const [namespace, device] of sides()) shell(namespace, overtaking(device));
  });
  afterAll(() => {
    shell(lab.host, 'nft delete table netdev fromclient; nft delete table netdev fromorigin');
    for (const [namespace, device] of sides())
      shell(namespace, `tc qdisc del dev ${device} root; nft delete table inet slow`);
  });

  test('are got over by what fish carries: nothing is harmed, and every flow ends in order', async () => {
    const part = 4_000_000;
    const before = await stats();
    const outOfOrder = sides().map(([namespace]) => statistic(namespace, 'TcpExtTCPOFOQueue'));
    const hash = shell(lab.client, `curl -sS --max-time 60 '${url}/file?bytes=${part}' | sha256sum`).split(' ')[0];
    expect(hash).toBe(curl(`${url}/sha256?bytes=${part}`));
    const upload = shell(
      lab.client,
      `curl -sS --max-time 60 '${url}/file?bytes=${part}' | curl -sS --max-time 60 -X POST --data-binary @- ${url}/`,
    );
    expect(JSON.parse(upload)).toMatchObject({ sha256: hash });
    for (let page = 0; page < 8; page++) expect(curl(`${url}/`).startsWith(sharedAddress)).toBe(true);

    for (const [index, [namespace]] of sides().entries())
      expect(statistic(namespace, 'TcpExtTCPOFOQueue')).toBeGreaterThan(outOfOrder[index] ?? NaN);
    for (const table of ['fromclient', 'fromorigin'])
      expect(shell(lab.host, `nft list table netdev ${table}`)).toMatch(/packets [1-9]/);
    const living = async () => {
      const { flows } = await ask<FlowList>({ do: 'flows' });
      return flows.filter(({ protocol, state }) => protocol === 'tcp' && state === 'live');
    };
    await expect.poll(living, { timeout: 20_000 }).toEqual([]);
    const { flowsEnded } = await stats();
    expect(flowsEnded.finished - before.flowsEnded.finished).toBe(12);
    expect(flowsEnded.reset).toBe(before.flowsEnded.reset);
  });
});

describe('what must not happen', () => {
  test('nothing reached the origin from another source than the leased ones', () => {
    const seen = JSON.parse(shell(lab.origin, `curl -sS ${url}/seen`)) as string[];
    expect(seen.length).toBeGreaterThan(5);
    expect(seen.filter((source) => !isLeased(source))).toEqual([]);
    expect(strangersAtOrigin()).toBe(0);
  });

  test('with real checksums on every wire, no receiver finds one wrong', async () => {
    await setBlocks(sharedTcp, ...others);
    for (const [namespace, link] of cableEnds(lab)) inNamespace(namespace, 'ethtool', '-K', link, 'tx', 'off');
    const [hash] = shell(lab.client, `curl -sS --max-time 60 ${url}/file | sha256sum`).split(' ');
    expect(hash).toBe(curl(`${url}/sha256`));
    const upload = shell(
      lab.client,
      `head -c 5000000 /dev/urandom > /dev/shm/ff-upload; curl -sS --max-time 60 --data-binary @/dev/shm/ff-upload ${url}/; sha256sum < /dev/shm/ff-upload; rm /dev/shm/ff-upload`,
    );
    const [, sent, received] = /"sha256":"(\w+)".*}(\w+)/.exec(upload) ?? [];
    expect(sent).toBe(received);
    expect(shell(lab.client, `echo -n sum | nc -u -w1 ${addresses.origin} 53`)).toMatch(/^sum 198/);
    expect(shell(lab.client, `ping -q -c 2 -i 0.2 ${addresses.origin}`)).toContain('2 received');
    expect([checksumErrors(lab.client), checksumErrors(lab.origin)]).toEqual([0, 0]);
  });

  test('an unsolicited connection to a leased port gets no answer, not even a refusal', async () => {
    await setBlocks(ownTcp, ...others);
    const { drops } = await stats();
    const attempt = shell(lab.origin, `timeout 1.5 bash -c 'exec 3<>/dev/tcp/${ownAddress}/9300' 2>&1; echo code $?`);
    expect(attempt).toBe('code 124');
    expect((await stats()).drops.no_flow).toBeGreaterThan(drops.no_flow);
  });

  test('two users of one shared block never send from the same 5-tuple, and who finds no port is told at once', async () => {
    const pair = block(sharedAddress, 'tcp', 9_344, 9_345, { ...shared('late'), lease: 'lease-pair' });
    await setBlocks(pair, ...others);
    // A proxy on this host, bound late within the block, holds one of the two ports toward the origin.
    const proxy = spawn(
      'ip',
      [
        'netns',
        'exec',
        lab.host,
        'python3',
        '-c',
        `
import socket
s = socket.socket()
s.setsockopt(0, 24, 1)
s.setsockopt(0, 51, 9345 << 16 | 9344)
s.bind(('${sharedAddress}', 0))
s.connect(('${addresses.origin}', 80))
print(s.getsockname()[1], flush=True)
input()`,
      ],
      { stdio: ['pipe', 'pipe', 'inherit'] },
    );
    const proxyPort = Number(await firstWords(proxy));
    const other = 9_344 + 9_345 - proxyPort;
    // The client keeps its connection open, so that the port stays taken.
    const first = spawn(
      'ip',
      [
        'netns',
        'exec',
        lab.client,
        'bash',
        '-c',
        `exec 3<>/dev/tcp/${addresses.origin}/80; printf 'GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n' >&3; cat <&3`,
      ],
      {
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    );
    let answer = '';
    while (!answer.includes('198.51')) answer += String((await once(first.stdout, 'data'))[0]);
    expect(answer).toContain(`${sharedAddress}:${other}`);
    const refused = shell(
      lab.client,
      `time -p timeout 10 bash -c 'exec 3<>/dev/tcp/${addresses.origin}/80' 2>&1; true`,
    );
    expect(refused).toContain('No route to host');
    const { drops, icmpErrorsSent, placeholdersTaken } = await stats();
    expect(drops.no_port).toBeGreaterThan(0);
    expect(icmpErrorsSent).toBeGreaterThan(0);
    expect(placeholdersTaken).toBeGreaterThan(0);
    for (const child of [proxy, first]) child.kill('SIGKILL');
  });
});
