import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AgentLab, eventually, type AgentProcess } from './support/agent-lab.ts';

/*
 * An IPv6 client and an origin talk through fish, from leases of both families, with an agent that does everything that the
 * host needs for it. Behind the origin lies a network (2001:db8:f:2::/64) into which nothing larger than 1,300 bytes fits.
 */
const [pool4, pool6] = ['198.51.100.10', '2001:db8:a::10'];
const [origin4, origin6, narrow6] = ['203.0.113.1', '2001:db8:f::1', '2001:db8:f:2::1'];
const [client6, hostToClient6] = ['2001:db8:c::2', '2001:db8:c::1'];
const narrow_bytes = 1_300;
const fileBytes = 8_000_000;
const script = (name: string) => fileURLToPath(new URL(`support/${name}`, import.meta.url));

const fish = {
  client_prefixes: ['100.64.0.0/10', '2001:db8:c::/64'],
  icmp_source6: hostToClient6,
  claims: [
    { protocol: 'tcp', mode: 'shared', binding: 'late', ports: 128, family: 6 },
    { protocol: 'tcp', mode: 'shared', binding: 'explicit', ports: 128, family: 6 },
    { protocol: 'tcp', ports: 128, family: 6 },
    { protocol: 'udp', ports: 64, family: 6 },
    { protocol: 'icmp', ports: 16, family: 6 },
    // Without a family: that of most clients.
    { protocol: 'tcp', ports: 8 },
  ],
};

describe.each(['ebpf', 'nftables'] as const)('fish for IPv6 clients, steered by %s', (mode) => {
  let lab: AgentLab;
  let agent: AgentProcess;
  const kinds = new Map<string, Readonly<{ first: number; last: number }>>();
  const url = `http://[${origin6}]`;
  const curl = (args: string) => lab.shell(lab.clientSide, `curl -gsS --max-time 30 -H 'Connection: close' ${args}`);
  const kindOf = (port: number): string | undefined =>
    [...kinds].find(([, { first, last }]) => first <= port && port <= last)?.[0];
  const datagram = (args: string) => lab.shell(lab.clientSide, `python3 ${script('datagrams6.py')} ${args}`);

  beforeAll(async () => {
    lab = await AgentLab.open(`six-${mode.slice(0, 4)}`);
    const config = await lab.setUp({
      slices: [
        [pool4, 8_192],
        [pool6, 8_192],
      ],
      settings: { steering: mode, client_interfaces: ['hc'], fish },
    });
    lab.shell(lab.host, `ip addr add ${hostToClient6}/64 dev hc nodad`);
    lab.shell(lab.clientSide, `ip addr add ${client6}/64 dev c0 nodad; ip -6 route add default via ${hostToClient6}`);
    lab.shell(
      lab.origin,
      `ip link add narrow type veth peer name nowhere; ip link set nowhere up; ip link set narrow mtu ${narrow_bytes} up;
       ip -6 route add ${narrow6}/128 dev narrow;
       sysctl -qw net.ipv6.conf.all.forwarding=1`,
    );
    agent = lab.startAgent(config);
    const origin = lab.spawn(lab.origin, [process.execPath, script('fish-origin.ts'), origin6, String(fileBytes)]);
    await Promise.all([
      new Promise((resolve) => origin.stdout?.once('data', resolve)),
      agent.until(({ lease_counts }) => lease_counts['up'] === fish.claims.length, 'fish has not its leases'),
    ]);
    for (const { protocol, address, binding, ports } of (await lab.client.leases.list({ machine: 'edge' })).items) {
      expect(address).toBe(protocol === 'tcp' && ports.last - ports.first === 7 ? pool4 : pool6);
      if (protocol === 'tcp' && address === pool6) kinds.set(binding ?? 'exclusive', ports);
    }
  });
  afterAll(() => lab.close());

  it('forwards on the devices that fish needs, and not on others, where the kernel can', () => {
    const read = (name: string) => lab.shell(lab.host, `cat /proc/sys/net/ipv6/conf/${name} 2>/dev/null || true`);
    const single = ['h0', 'hc', 'fishtun', 'lo'].map((device) => read(`${device}/force_forwarding`));
    if (single[0] === '') expect(read('all/forwarding')).toBe('1');
    else expect([...single, read('all/forwarding')]).toEqual(['1', '1', '1', '0', '0']);
  });

  it('carries connections from shared blocks, late and explicit, and from exclusive ones', async () => {
    const seen = new Set<string | undefined>();
    await eventually(
      () => {
        const sources = curl(Array.from({ length: 12 }, () => `-w '\\n' ${url}/`).join(' '));
        for (const line of sources.split('\n').filter(Boolean)) {
          expect(line.startsWith(`${pool6}:`)).toBe(true);
          seen.add(kindOf(Number(line.slice(pool6.length + 1))));
        }
        return seen.size >= 3 ? true : undefined;
      },
      () => JSON.stringify([...seen]),
    );
    expect([...seen].sort()).toEqual(['exclusive', 'explicit', 'late']);
  });

  it('carries files down and up, unharmed', () => {
    const hash = curl(`${url}/sha256`);
    expect(curl(`${url}/file | sha256sum`)).toContain(hash);
    const upload = curl(`${url}/file | curl -gsS --max-time 30 -X POST --data-binary @- ${url}/`);
    expect(JSON.parse(upload)).toMatchObject({ sha256: hash });
  });

  it('carries datagrams, pings, and both in fragments', () => {
    const said = lab.shell(lab.clientSide, `echo -n hello | nc -u -w1 -p 5353 ${origin6} 53`);
    expect(said).toContain(`hello ${pool6}:`);
    for (const bytes of [56, 4_000])
      expect(lab.shell(lab.clientSide, `ping -6 -q -c 3 -i 0.2 -W 5 -s ${bytes} ${origin6}`)).toContain('3 received');
    const large = lab.shell(lab.clientSide, `python3 ${script('large-datagrams.py')} ask ${origin6} 53 60000 4 15`);
    expect(large).toBe('4 1');
  });

  it('brings ICMPv6 errors to the client: a closed port, and how much the path can carry', () => {
    expect(datagram(`refused ${origin6} 4444 64`)).toBe('refused');
    expect(datagram(`mtu ${narrow6} 4444 1400`)).toBe(String(narrow_bytes));
  });

  it('is one hop, no more, and lets its clients reach each other by their leased ports', async () => {
    // The host and the origin: two hops, of which the second is where it arrives.
    expect(datagram(`refused ${origin6} 4444 2`)).toBe('refused');
    expect(datagram(`hairpin ${origin6} 53`)).toBe('both');
    // To a port of a shared block that nobody uses: fish hears of it, and not the host, which would refuse it.
    const before = (await agent.status()).counters.steer_hairpin?.packets ?? 0;
    const shared = kinds.get('late')?.first ?? NaN;
    lab.shell(lab.clientSide, `curl -gsS --max-time 1 http://[${pool6}]:${shared}/ || true`);
    expect((await agent.status()).counters.steer_hairpin?.packets).toBeGreaterThan(before);
  });

  it('has neither end of a connection send segments that do not fit through this host, also when a link has become narrower', async () => {
    expect((await agent.status()).fish?.stats['mss_clamped']).toBe(0);
    lab.shell(lab.host, 'ip link set h0 mtu 1400');
    await eventually(
      async () => {
        curl(`${url}/`);
        return (await agent.status()).fish?.stats['mss_clamped'];
      },
      () => 'no SYN was changed',
    );
    lab.spawn(lab.origin, ['nc', '-l', origin4, '81']);
    // tcpdump looks for flags in an IPv6 header without extensions alone, and in those of IPv4 by their name.
    const syns = 'ip6[6] == 6 and ip6[53] & 2 != 0 or tcp[tcpflags] & tcp-syn != 0';
    const [atOrigin, atClient] = await Promise.all([
      lab.capture(lab.origin, 'o0', syns),
      lab.capture(lab.clientSide, 'c0', syns),
    ]);
    curl(`${url}/`);
    lab.shell(lab.clientSide, `until nc -z -w1 ${origin4} 81; do :; done`);
    await eventually(
      () => (Math.min(atOrigin.lines(), atClient.lines()) >= 4 ? true : undefined),
      () => `${atOrigin.lines()} and ${atClient.lines()} packets are seen`,
    );
    const announced = async (capture: typeof atOrigin) =>
      (await capture.stop()).map((line) => /(IP6?) (\S+) > .*mss (\d+)/.exec(line)?.slice(1) ?? [line]);
    const [seenByOrigin, heardByClient] = [await announced(atOrigin), await announced(atClient)];
    const from = (seen: string[][], address: string) =>
      new Set(seen.filter(([, source]) => source?.startsWith(`${address}.`)).map(([, , mss]) => mss));
    // What leaves the client, and what leaves the origin, says what its own link can carry; what arrives is less.
    expect([from(seenByOrigin, pool6), from(seenByOrigin, pool4)]).toEqual([new Set(['1340']), new Set(['1360'])]);
    expect([from(heardByClient, origin6), from(heardByClient, origin4)]).toEqual([
      new Set(['1340']),
      new Set(['1360']),
    ]);
    expect(from(heardByClient, client6)).toEqual(new Set(['1440']));
    expect(from(seenByOrigin, origin6)).toEqual(new Set(['1440']));
  });

  it('has both families at once, each from its own address', () => {
    expect((lab.shell(lab.host, 'ip -6 rule; ip -4 rule').match(/lookup 100/g) ?? []).length).toBe(4);
    expect(
      lab.shell(lab.clientSide, `curl -sS --max-time 5 -o /dev/null -w '%{http_code}' http://${origin4}/ || true`),
    ).toBe('000');
  });
});
