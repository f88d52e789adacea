import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Lease } from '../../src/wire/leases.ts';
import { AgentLab, eventually, type AgentProcess } from './support/agent-lab.ts';

/*
 * Replies find fish, and nobody else's packets do: the same tests for both ways of steering. A client and an origin talk
 * through fish; a proxy on the host uses the same shared blocks with sockets of its own; captures on the TUN say what fish
 * was handed, and captures at the origin what the host answered.
 */
const [pool4, pool6] = ['198.51.100.10', '2001:db8:a::10'];
const [origin4, origin6] = ['203.0.113.1', '2001:db8:f::1'];
const localClient = '100.64.255.1';
const mark = 0x2a;
const webUid = 2_001;
const fileBytes = 8_000_000;
const bigDatagram_bytes = 4_000;
const script = (name: string) => fileURLToPath(new URL(`support/${name}`, import.meta.url));

const fish = {
  client_prefixes: ['100.64.0.0/10'],
  local_clients: [`${localClient}/32`],
  claims: [
    { protocol: 'tcp', mode: 'shared', binding: 'late', ports: 128 },
    { protocol: 'tcp', mode: 'shared', binding: 'explicit', ports: 128 },
    { protocol: 'tcp', ports: 128 },
    { protocol: 'udp', ports: 64 },
    { protocol: 'icmp', ports: 16 },
  ],
};
type Kind = 'late' | 'explicit' | 'exclusive';

/** Answers every datagram with one that needs three packets. */
const bigAnswers = `
  const socket = require('node:dgram').createSocket('udp4');
  socket.on('message', (_, from) => socket.send(Buffer.alloc(${bigDatagram_bytes}), from.port, from.address));
  socket.bind(5300, '${origin4}', () => console.log('ready'));`;

describe.each(['ebpf', 'nftables'] as const)('steering by %s', (mode) => {
  let lab: AgentLab;
  let agent: AgentProcess;
  let config: string;
  const blocks = new Map<Kind, Lease['ports']>();

  const curl = (args: string, namespace = lab.clientSide) =>
    lab.shell(namespace, `curl -sS --max-time 30 -H 'Connection: close' ${args}`);
  const url = `http://${origin4}`;
  const probe = (args: string): string =>
    lab.shell(lab.host, `${process.execPath} ${script('steering-probe.ts')} ${args}`);
  const kindOf = (port: number): Kind | undefined =>
    [...blocks].find(([, { first, last }]) => first <= port && port <= last)?.[0];
  const counters = async () => (await agent.status()).counters;

  /** Lines that a capture has seen of what `work` brought about, once there are so many. */
  async function seen(
    where: readonly [namespace: string, device: string],
    filter: string,
    work: () => unknown,
    lines_min = 1,
  ): Promise<readonly string[]> {
    const capture = await lab.capture(...where, filter);
    await work();
    await eventually(
      () => (capture.lines() >= lines_min ? true : undefined),
      () => `${filter}: ${capture.lines()} of ${lines_min}`,
      5_000,
    ).catch(() => {});
    return capture.stop();
  }
  const onTun = (filter: string, work: () => unknown, lines_min = 1) =>
    seen([lab.host, 'fishtun'], filter, work, lines_min);

  /** A placeholder of the test's own in a block of fish's, toward the origin; it ends with the lab. */
  async function hold(binding: 'late' | 'explicit', family: 4 | 6, remotePort: number): Promise<number> {
    const port = (blocks.get(binding)?.first ?? NaN) + 7;
    const [own, remote] = family === 4 ? [pool4, origin4] : [pool6, origin6];
    const args = ['hold', String(mark), binding, own, String(port), remote, String(remotePort)];
    const child = lab.spawn(lab.host, [process.execPath, script('steering-probe.ts'), ...args]);
    const said = await new Promise<string>((resolve) =>
      child.stdout?.once('data', (chunk: Buffer) => resolve(String(chunk))),
    );
    expect(Number(said)).toBeGreaterThan(0);
    return port;
  }
  /** One segment from the origin to a leased port, as `send-segment.py` makes it. */
  function segment(family: 4 | 6, remotePort: number, port: number, bytes: number, options = ''): void {
    const [own, remote] = family === 4 ? [pool4, origin4] : [pool6, origin6];
    lab.shell(
      lab.origin,
      `python3 ${script('send-segment.py')} ${remote} ${remotePort} ${own} ${port} ${bytes} ${options}`,
    );
  }

  beforeAll(async () => {
    lab = await AgentLab.open(`steer-${mode.slice(0, 4)}`);
    config = await lab.setUp({
      slices: [
        [pool4, 8_192],
        [pool6, 8_192],
      ],
      settings: { steering: mode, client_interfaces: ['hc'], fish },
    });
    await lab.client.machines.putHolder('edge', 'web', { kind: 'proxy', uid: webUid });
    lab.shell(lab.host, `ip addr add ${localClient}/32 dev lo`);
    // Fish speaks IPv4 only, so the agent has no reason to forward IPv6; steering it by rules takes forwarding.
    lab.shell(lab.host, 'sysctl -qw net.ipv6.conf.all.forwarding=1');
    const ready = (args: readonly string[]) =>
      new Promise<void>((resolve) => {
        const child = lab.spawn(lab.origin, args);
        child.stdout?.once('data', () => resolve());
      });
    agent = lab.startAgent(config);
    await Promise.all([
      ready([process.execPath, script('fish-origin.ts'), origin4, String(fileBytes)]),
      ready([process.execPath, '-e', bigAnswers]),
      ready(['iperf3', '--server', '--forceflush', '--bind', origin4]),
      agent.until(({ lease_counts }) => lease_counts['up'] === fish.claims.length, 'fish has not its leases'),
    ]);
    for (const lease of (await lab.client.leases.list({ machine: 'edge' })).items)
      if (lease.protocol === 'tcp') blocks.set(lease.binding ?? 'exclusive', lease.ports);
    expect([...blocks.keys()].sort()).toEqual(['exclusive', 'explicit', 'late']);
  });
  afterAll(() => lab.close());

  it('is told in status and metrics, and has early demux as it needs it, or leaves it as it was', async () => {
    expect((await agent.status()).steering).toEqual({ setting: mode, mode, why: 'the settings say so' });
    expect((await agent.get('/metrics')).text).toContain(`fishery_agent_steering{mode="${mode}"} 1`);
    const value = lab.shell(lab.host, 'cat /proc/sys/net/ipv4/tcp_early_demux');
    expect(value).toBe(mode === 'ebpf' ? '1' : '0');
    for (const device of ['h0', 'hc'])
      expect(JSON.parse(probe(`links ${device}`))).toHaveLength(mode === 'ebpf' ? 1 : 0);
  });

  it('carries connections from shared blocks, late and explicit, and from exclusive ones', async () => {
    const seenKinds = new Map<Kind | undefined, number>();
    await eventually(
      () => {
        const sources = curl(Array.from({ length: 12 }, () => `-w '\\n' ${url}/`).join(' '));
        for (const line of sources.split('\n').filter((each) => each.startsWith(pool4))) {
          const kind = kindOf(Number(line.split(':')[1]));
          seenKinds.set(kind, (seenKinds.get(kind) ?? 0) + 1);
        }
        return seenKinds.size >= 3 ? true : undefined;
      },
      () => JSON.stringify([...seenKinds]),
    );
    expect([...seenKinds.keys()].sort()).toEqual(['exclusive', 'explicit', 'late']);
    const steered = (await counters()).steer_placeholder?.packets ?? 0;
    // By the program, they never come as far as the table.
    if (mode === 'ebpf') expect(steered).toBe(0);
    else expect(steered).toBeGreaterThan(0);
  });

  it('carries files down and up, unharmed', () => {
    const hash = curl(`${url}/sha256`);
    for (let round = 0; round < 3; round++) expect(curl(`${url}/file | sha256sum`)).toContain(hash);
    const upload = curl(`${url}/file | curl -sS --max-time 30 -X POST --data-binary @- ${url}/`);
    expect(JSON.parse(upload)).toMatchObject({ sha256: hash });
  });

  it.each(['', '--reverse'])('leaves large segments whole: iperf3 %s', async (direction) => {
    const packets = async () => {
      const stats = (await agent.status()).fish?.stats;
      return (stats?.['packets_in'] ?? NaN) + (stats?.['packets_out'] ?? NaN);
    };
    const earlier = await packets();
    const report = lab.shell(
      lab.clientSide,
      `iperf3 --json --client ${origin4} --bytes 20M --connect-timeout 5000 ${direction}`,
    );
    const { end } = JSON.parse(report) as { end: { sum_received: { bytes: number } } };
    expect(end.sum_received.bytes).toBeGreaterThan(10_000_000);
    expect((await packets()) - earlier).toBeLessThan(end.sum_received.bytes / 1_448);
  });

  it('answers ping', () => {
    expect(lab.shell(lab.clientSide, `ping -q -c 3 -i 0.2 -W 2 ${origin4}`)).toContain('3 received');
  });

  it('hands fish segments with IP options and with IPv6 extension headers', async () => {
    for (const [family, binding] of [
      [4, 'late'],
      [4, 'explicit'],
      [6, 'late'],
      [6, 'explicit'],
    ] as const) {
      const remotePort = 4_000 + family;
      const port = await hold(binding, family, remotePort);
      const protocol = family === 4 ? 'ip' : 'ip6';
      for (const options of ['', 'options']) {
        const resets = await seen(
          [lab.origin, 'o0'],
          `${protocol} src net ${family === 4 ? pool4 : pool6} and ${protocol} proto ${family === 4 ? '\\tcp' : 6}`,
          async () => {
            const lines = await onTun(`${protocol} dst host ${family === 4 ? pool4 : pool6}`, () =>
              segment(family, remotePort, port, 10, options),
            );
            expect([family, binding, options, lines.length]).toEqual([family, binding, options, 1]);
          },
          0,
        );
        expect(resets).toEqual([]);
      }
    }
  });

  it('serves programs on the host itself that send from a client address', () => {
    const source = curl(`--interface ${localClient} ${url}/`, lab.host);
    expect(kindOf(Number(source.split(':')[1]))).toBeDefined();
    expect(source).toContain(pool4);
  });
});
