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
  icmp_source: '100.64.0.1',
  claims: [
    { protocol: 'tcp', mode: 'shared', binding: 'late', ports: 128 },
    { protocol: 'tcp', mode: 'shared', binding: 'explicit', ports: 128 },
    { protocol: 'tcp', ports: 128 },
    { protocol: 'udp', ports: 64 },
    { protocol: 'icmp', ports: 16 },
  ],
};
type Kind = 'late' | 'explicit' | 'exclusive';
type Tuple = Readonly<{ binding: 'late' | 'explicit'; own: string; port: number; remote: string; remotePort: number }>;

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
  let before: Readonly<Record<string, string>>;

  const curl = (args: string, namespace = lab.clientSide) =>
    lab.shell(namespace, `curl -sS --max-time 30 -H 'Connection: close' ${args}`);
  const url = `http://${origin4}`;
  const probe = (args: string): string =>
    lab.shell(lab.host, `${process.execPath} ${script('steering-probe.ts')} ${args}`);
  const links = () => JSON.parse(probe('links h0')) as number[];
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

  /** Placeholders of the test's own, one for each, held until the lab closes. */
  async function hold(placeholders: readonly Tuple[]): Promise<void> {
    const args = placeholders.map(({ binding, own, port, remote, remotePort }) =>
      [binding, own, port, remote, remotePort].join(','),
    );
    const child = lab.spawn(lab.host, [process.execPath, script('steering-probe.ts'), 'hold', String(mark), ...args]);
    const said = await new Promise<string>((resolve) =>
      child.stdout?.once('data', (chunk: Buffer) => resolve(String(chunk))),
    );
    for (const fd of JSON.parse(said) as number[]) expect(fd).toBeGreaterThan(0);
  }
  /** Segments from the origin to what `hold` holds, as `send-segment.py` makes them. */
  function send(tuples: readonly Tuple[], bytes: number, more = ''): void {
    const args = tuples.map(({ own, port, remote, remotePort }) =>
      [remote, remotePort, own, port, bytes, ...(more === '' ? [] : [more])].join(','),
    );
    lab.shell(lab.origin, `python3 ${script('send-segment.py')} ${args.join(' ')}`);
  }
  /** Both bindings, both families, on ports that fish leaves alone toward such a remote port. */
  const tuples = (): readonly Tuple[] =>
    (['late', 'explicit'] as const).flatMap((binding) =>
      [
        [pool4, origin4, 4_004],
        [pool6, origin6, 4_006],
      ].map(([own, remote, remotePort]) => {
        const port = (blocks.get(binding)?.first ?? NaN) + 7;
        return { binding, own, port, remote, remotePort } as Tuple;
      }),
    );

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
    // As some distributions have it; nothing is amiss with that alone.
    const filters = ['all.rp_filter=0', 'h0.rp_filter=1', 'hc.rp_filter=1', 'all.src_valid_mark=0'];
    lab.shell(lab.host, `sysctl -qw ${filters.map((each) => `net.ipv4.conf.${each}`).join(' ')}`);
    const ready = (args: readonly string[]) =>
      new Promise<void>((resolve) => {
        const child = lab.spawn(lab.origin, args);
        child.stdout?.once('data', () => resolve());
      });
    before = lab.fingerprint();
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
    // Replies arrive from the uplink; what clients send is nobody's reply.
    expect(JSON.parse(probe('links h0'))).toHaveLength(mode === 'ebpf' ? 1 : 0);
    expect(JSON.parse(probe('links hc'))).toEqual([]);
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

  it('carries datagrams in thousands, many streams both ways at once: iperf3 --udp', async () => {
    const [streams, bytes] = [16, 1_200];
    const before = (await agent.status()).fish?.stats ?? {};
    const how = `--udp --bidir --parallel ${streams} --bitrate 2M --length ${bytes} --time 1 --connect-timeout 5000`;
    const report = lab.shell(lab.clientSide, `iperf3 --json --client ${origin4} ${how}`);
    const { end, error } = JSON.parse(report) as {
      error?: string;
      end: { streams: { udp: { sender: boolean; packets: number; lost_packets: number } }[] };
    };
    expect(error).toBeUndefined();
    expect(end.streams.filter(({ udp }) => udp.sender)).toHaveLength(streams);
    expect(end.streams).toHaveLength(2 * streams);
    // A busy machine loses some of them in the buffers of sockets; no stream may be cut off.
    for (const { udp } of end.streams) expect(udp.packets - udp.lost_packets).toBeGreaterThan(udp.packets / 2);
    const after = (await agent.status()).fish?.stats ?? {};
    const grown = (name: string) => (after[name] ?? NaN) - (before[name] ?? NaN);
    const sent = end.streams.reduce((sum, { udp }) => sum + udp.packets, 0);
    expect(sent).toBeGreaterThan(streams * 100);
    expect(grown('bytes_out') + grown('bytes_in')).toBeGreaterThan((sent * bytes) / 2);
    expect([grown('drops_no_port'), grown('drops_no_flow'), grown('writes_failed')]).toEqual([0, 0, 0]);
  });

  it('answers ping', () => {
    expect(lab.shell(lab.clientSide, `ping -q -c 3 -i 0.2 -W 2 ${origin4}`)).toContain('3 received');
  });

  it('has replies that are no martians when somebody has marks count for strict filtering, as VPN tools do', async () => {
    const key = 'net.ipv4.conf.h0.rp_filter';
    const filter = () => lab.shell(lab.host, `sysctl -n ${key} net.ipv4.conf.hc.rp_filter`).split(/\s+/);
    expect(filter()).toEqual(['1', '1']);
    lab.shell(lab.host, 'sysctl -qw net.ipv4.conf.all.src_valid_mark=1');
    await eventually(
      () => filter().every((value) => value === '2') || undefined,
      () => `rp_filter is ${filter().join(' and ')}`,
    );
    expect(lab.shell(lab.clientSide, `ping -q -c 1 -W 5 ${origin4}`)).toContain('1 received');
    for (let i = 0; i < 3; i += 1) expect(curl(`${url}/`)).toContain(pool4);
    // Somebody who sets it back meets the same.
    const { drift } = (await agent.status()).host;
    lab.shell(lab.host, `sysctl -qw ${key}=1`);
    await agent.until(({ host }) => (host.drift.sysctl ?? 0) > (drift.sysctl ?? 0), 'nobody noticed');
    expect(lab.shell(lab.clientSide, `ping -q -c 1 -W 5 ${origin4}`)).toContain('1 received');
    // It stays loose until the agent is taken down.
    lab.shell(lab.host, 'sysctl -qw net.ipv4.conf.all.src_valid_mark=0');
  });

  it('hands fish what is for a placeholder: plain, with IP options or extension headers, in fragments, over IPv4 and IPv6', async () => {
    await hold(tuples());
    const answers = await lab.capture(lab.origin, 'o0', `(src host ${pool4} or src host ${pool6}) and not icmp6`);
    // A fragment other than the first has no ports; `tcp` would not match it.
    const filter = `dst host ${pool4} or dst host ${pool6}`;
    expect(await onTun(filter, () => send(tuples(), 10), 4)).toHaveLength(4);
    expect(await onTun(filter, () => send(tuples(), 10, 'options'), 4)).toHaveLength(4);
    // Three packets each: put together before the rules, taken apart again on the way into the TUN.
    // A capture may miss a packet on a busy machine, but never sees one that is not there.
    await eventually(
      async () => (await onTun(filter, () => send(tuples(), 4_000), 12)).length === 12 || undefined,
      () => 'not twelve fragments',
    );
    // Nobody on the host had any of it: no reset, no error.
    expect(await answers.stop()).toEqual([]);
  });

  it('hands fish a reply in fragments, all of it', async () => {
    const ask = `echo x | nc -u -w1 ${origin4} 5300`;
    const fragments = await onTun(
      // On their way in; those that fish hands on are for the client. Others than the first have no ports.
      `src host ${origin4} and dst host ${pool4} and ip proto 17`,
      () => lab.shell(lab.clientSide, `${ask}; true`),
      3,
    );
    expect(fragments).toHaveLength(3);
  });

  const largeDatagrams = (namespace: string, more = '') =>
    lab.shell(namespace, `python3 ${script('large-datagrams.py')} ask ${origin4} 53 60000 4 15 ${more}`);

  it('carries datagrams of 60 kB there and back, whole', async () => {
    const heldEver = async () => (await agent.status()).fish?.stats['fragments_held_ever'];
    const earlier = await heldEver();
    expect(largeDatagrams(lab.clientSide)).toBe('4 1');
    // Put together before they are steered, and taken apart again in order: nothing has to wait.
    expect(await heldEver()).toBe(earlier);
  });

  it('carries what may be cut into a narrower uplink, and tells a client what fits, before the TUN device and behind it', async () => {
    const setMtu = (bytes: number, tun: number) => {
      lab.shell(lab.host, `ip link set h0 mtu ${bytes}; ip link set fishtun mtu ${tun}`);
      lab.shell(lab.origin, `ip link set o0 mtu ${bytes}`);
    };
    const ping = (how: string) => lab.shell(lab.clientSide, `ping -q -c 2 -i 0.2 -W 1 ${how} -s 1450 ${origin4}; true`);
    try {
      setMtu(1_400, 1_500);
      expect(largeDatagrams(lab.clientSide)).toBe('4 1');
      expect(ping('-M dont')).toContain('2 received');
      // What the kernel says of a packet that has left fish, it says to the leased address, to itself: fish hears it.
      ping('-M do');
      expect(lab.shell(lab.clientSide, `ip route get ${origin4}`)).toContain('mtu 1400');
      lab.shell(lab.clientSide, 'ip route flush cache');
      setMtu(1_400, 1_400);
      expect(largeDatagrams(lab.clientSide)).toBe('4 1');
      ping('-M do');
      expect(lab.shell(lab.clientSide, `ip route get ${origin4}`)).toContain('mtu 1400');
      expect((await agent.status()).fish?.stats['host_errors_relayed']).toBeGreaterThan(0);
    } finally {
      setMtu(1_500, 1_500);
      lab.shell(lab.clientSide, 'ip route flush cache');
    }
  });

  it('tells a client at once that there is no way from the host, whatever block its flow would have', () => {
    lab.shell(lab.host, 'ip route add unreachable 203.0.113.66');
    try {
      const ask = `timeout 20 bash -c 'exec 3<>/dev/tcp/203.0.113.66/80' 2>&1`;
      const said = lab.shell(lab.clientSide, `for i in 1 2 3 4 5; do ${ask} & done; wait`);
      expect(said.match(/connect: No route to host/g)).toHaveLength(5);
    } finally {
      lab.shell(lab.host, 'ip route del unreachable 203.0.113.66');
    }
  });

  it('leaves the fragments of an answer to a proxy’s socket to that', async () => {
    const { id: session } = await lab.client.sessions.open({ machine: 'edge', holder: 'web', ttl_s: 600 });
    const { leases } = await lab.client.leases.grant({ session, claims: [{ protocol: 'udp', ports: 16 } as never] });
    const port = leases[0]?.ports.first ?? NaN;
    // The guard lets them pass once it has heard of the lease.
    await eventually(
      () => largeDatagrams(lab.host, `${webUid}:${pool4}:${port}`) === '4 1' || undefined,
      () => agent.output.slice(-2_000),
    );
  });

  it('hands fish the ICMP errors about its packets, with and without IP options in what they quote, and the client heeds them', async () => {
    lab.shell(lab.origin, 'ip link add narrow0 mtu 1280 type veth peer name narrow1');
    lab.shell(
      lab.origin,
      'ip link set narrow0 up; ip route add 203.0.113.9 dev narrow0; sysctl -qw net.ipv4.ip_forward=1 net.ipv4.icmp_ratelimit=0',
    );
    lab.shell(
      lab.origin,
      'nft -f -',
      `table ip refuse {
      chain input {
        type filter hook input priority 0
        tcp dport 81 reject with icmp admin-prohibited
      }
    }
    `,
    );
    const isError = 'icmp[0] = 3';
    const sentErrors = await lab.capture(lab.origin, 'o0', isError);
    const lines = await onTun(
      // On their way in; those that fish hands on are for the client.
      `${isError} and dst host ${pool4}`,
      async () => {
        lab.shell(lab.clientSide, `python3 ${script('provoke-errors.py')} ${origin4} 81 203.0.113.9`);
        // Forgotten each time, or the client would not send another.
        const ping = 'ip route flush cache; ping -q -c 1 -W 1 -M do -s 1400 203.0.113.9';
        lab.shell(lab.clientSide, `${ping}; ${ping}; true`);
      },
      2 * 12 + 2 + 2,
    );
    const sent = await sentErrors.stop();
    expect(sent.filter((line) => line.includes('need to frag'))).toHaveLength(2 + 2);
    expect(sent.length).toBeGreaterThanOrEqual(2 * 12 + 2 + 2);
    expect(lines.length).toBe(sent.length);
    // And fish hands them on: the client knows by now what fits on the way there.
    expect(lab.shell(lab.clientSide, 'ip route get 203.0.113.9')).toContain('mtu 1280');
    const { steer_error, steer_placeholder } = await counters();
    // Exclusive blocks, and flows of shared ones: by the packet they quote, or by the socket of that.
    expect(steer_error?.packets).toBeGreaterThan(4);
    expect((steer_error?.packets ?? 0) + (steer_placeholder?.packets ?? 0)).toBeGreaterThanOrEqual(sent.length);
  });

  it('serves programs on the host itself that send from a client address', () => {
    const source = curl(`--interface ${localClient} ${url}/`, lab.host);
    expect(kindOf(Number(source.split(':')[1]))).toBeDefined();
    expect(source).toContain(pool4);
  });

  it("leaves a proxy's own sockets on the same shared blocks alone, through their handshake, their end and TIME_WAIT", async () => {
    const { id: session } = await lab.client.sessions.open({ machine: 'edge', holder: 'web', ttl_s: 600 });
    const open = (port = '') =>
      lab.shell(lab.origin, `ss -Htan dst ${pool4} dport = :${port} | grep -v TIME-WAIT; true`);
    for (const binding of ['late', 'explicit'] as const) {
      const { first, last } = blocks.get(binding)!;
      const claim = { protocol: 'tcp', mode: 'shared', binding, ports: 128, at: { address: pool4, first_port: first } };
      const { leases } = await lab.client.leases.grant({ session, claims: [claim as never] });
      expect(leases.map(({ state, ports }) => [state, ports.first])).toEqual([['active', first]]);
      const [port, answer] = lab
        .shell(
          lab.host,
          `python3 ${script('proxy-socket.py')} ${webUid} ${binding} ${pool4} ${first} ${last} ${origin4}`,
        )
        .split(' ');
      expect(answer).toBe(`${pool4}:${port}`);
      expect(lab.shell(lab.host, `ss -Htan state time-wait src ${pool4} sport = :${port}`)).not.toBe('');
      // The origin had its FIN answered, by TIME_WAIT if need be; one of its own may be of another flow before.
      await eventually(
        () => open(port) === '' || undefined,
        () => lab.shell(lab.origin, 'ss -tan'),
      );
    }
  });

  it('leaves a listener on a leased port alone, from its first SYN on', async () => {
    const { id: session } = await lab.client.sessions.open({ machine: 'edge', holder: 'web', ttl_s: 600 });
    const { leases } = await lab.client.leases.grant({ session, claims: [{ protocol: 'tcp', ports: 16 } as never] });
    const port = leases[0]?.ports.first ?? NaN;
    const web = await lab.user(lab.host, webUid);
    await web.ask({ op: 'echo', on: pool4, port });
    const remote = await lab.user(lab.origin, 0);
    const socket = await remote.connect(origin4, 0, pool4, port);
    expect(socket).toMatch(/^socket-/);
    await remote.ask({ op: 'say', socket, text: 'there' });
    await eventually(
      async () => ((await remote.ask({ op: 'heard', socket })) === 'there' ? true : undefined),
      () => 'nothing came back',
    );
  });

  it('goes on after the TUN device was deleted, and after somebody detached the program', async () => {
    const works = () =>
      eventually(
        () => curl(`--max-time 2 ${url}/`).startsWith(pool4) || undefined,
        () => agent.output.slice(-2_000),
      );
    const [before] = links();
    lab.shell(lab.host, 'ip link set h0 mtu 1400; ip link del fishtun');
    await agent.until(({ fish: now }) => (now?.starts ?? 0) > 1 && now?.running === true, 'fish is not started again');
    // Made anew, it has the MTU of the narrowest link.
    expect(lab.shell(lab.host, 'ip link show fishtun')).toContain('mtu 1400');
    lab.shell(lab.host, 'ip link set h0 mtu 1500; ip link set fishtun mtu 1500');
    await works();
    // The program was replaced by one for the new device in the link that was there.
    expect(links()[0]).toBe(before);
    if (mode === 'nftables') return;
    const { drift } = (await agent.status()).host;
    probe('detach h0');
    await agent.until(({ host }) => (host.drift.steering ?? 0) > (drift.steering ?? 0), 'nobody noticed');
    expect(links()).toHaveLength(1);
    await works();
  });

  it('is silence once the agent is killed, and nothing once the host was put back', async () => {
    const resets = await lab.capture(lab.origin, 'o0', `src host ${pool4} and tcp[tcpflags] & tcp-rst != 0`);
    const download = lab.spawn(lab.clientSide, ['iperf3', '--client', origin4, '--reverse', '--time', '60']);
    await eventually(
      () => lab.shell(lab.origin, `ss -Htn state established dst ${pool4} sport = :5201`) !== '' || undefined,
      () => 'no download',
    );
    const attached = links();
    expect(attached).toHaveLength(mode === 'ebpf' ? 1 : 0);
    await agent.end('SIGKILL');
    const sent = await seen([lab.origin, 'o0'], `dst host ${pool4} and tcp`, () => {}, 3);
    expect(sent.length).toBeGreaterThan(0);
    expect(await resets.stop()).toEqual([]);
    download.kill('SIGKILL');
    // The keeper has the program's links, and a successor finds them.
    expect(links()).toEqual(attached);
    agent = lab.startAgent(config);
    await agent.until(({ lease_counts }) => lease_counts['up'] === fish.claims.length + 4, 'no successor');
    expect(links()).toEqual(attached);
    await agent.end();
    lab.down(config);
    expect(lab.fingerprint()).toEqual(before);
    for (const device of ['h0', 'hc']) expect(JSON.parse(probe(`links ${device}`))).toEqual([]);
  });
});
