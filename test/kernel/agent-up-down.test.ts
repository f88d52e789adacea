import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { AgentLab, eventually, fishOfEachKind, readState } from './support/agent-lab.ts';

const withFish = { client_interfaces: ['hc'], fish: { ...fishOfEachKind, session_ttl_s: 5 } };

/** As far as it is looked at here. */
type Written = Readonly<{ recorded: Readonly<{ sysctls: Readonly<Record<string, string>> }> }>;

let lab: AgentLab;
beforeEach(async () => {
  lab = await AgentLab.open('updown');
});
afterEach(() => lab.close());

describe('what others have on the host', () => {
  it('in the way of fish: it does not start, and says which setting to change', async () => {
    const config = await lab.setUp({ settings: withFish });
    lab.shell(lab.host, 'ip route add 203.0.113.0/25 dev h0 table 100');
    lab.shell(lab.host, 'ip rule add priority 500 fwmark 0x2a lookup main');
    const before = lab.fingerprint();
    const agent = lab.startAgent(config);
    expect(await agent.ended()).not.toBe(0);
    expect(agent.output).toContain('-4 203.0.113.0/25 dev h0 table 100): remove it, or change route_table');
    expect(agent.output).toContain('-4 priority 500 fwmark 0x2a/0xffffffff lookup main): remove it, or change mark');
    expect(lab.fingerprint()).toEqual(before);
  });

  it('as a device that has the name of its own, and is no TUN: it does not start, and touches nothing', async () => {
    const config = await lab.setUp({ settings: { ...withFish, tun: 'dum0' } });
    lab.shell(lab.host, 'ip link add dum0 type veth peer name dum1');
    const before = lab.fingerprint();
    const agent = lab.startAgent(config);
    expect(await agent.ended()).not.toBe(0);
    expect(agent.output).toContain(
      'dum0 is a device of this host, and none of kind tun (veth): change the setting tun',
    );
    expect(lab.fingerprint()).toEqual(before);
  });

  it('in the way of fish later on: it says so until it is gone, and takes nothing away', async () => {
    const agent = lab.startAgent(await lab.setUp({ settings: withFish }));
    await agent.until(({ lease_counts }) => lease_counts['up'] === 3, 'fish has not its leases');
    await agent.ready();
    lab.shell(lab.host, 'ip route add 203.0.113.0/25 dev h0 table 100');
    await agent.until(({ host }) => host.problem?.includes('change route_table') ?? false, 'it says nothing');
    expect(lab.shell(lab.host, 'ip route show table 100')).toContain('203.0.113.0/25');
    expect((await agent.get('/healthz')).code).toBe(503);
    lab.shell(lab.host, 'ip route del 203.0.113.0/25 dev h0 table 100');
    await agent.ready();
  });

  it('as its own address inside a pool: the guard does not cut it off, and the status says to carve it out', async () => {
    const agent = lab.startAgent(await lab.setUp());
    await agent.ready();
    const origin = await lab.user(lab.origin, 0);
    await origin.ask({ op: 'echo', on: '203.0.113.1', port: 80 });
    const somebody = await lab.user(lab.host, 2_001);
    const old = await somebody.connect('192.0.2.1', 0);
    expect(old).toMatch(/^socket-/);
    await lab.client.pools.create({ id: 'near', prefixes: ['192.0.2.0/24'] });
    await agent.until(({ host }) => /192\.0\.2\.1 .* pool near/.test(host.problem ?? ''), 'it says nothing');
    expect(lab.shell(lab.host, 'nft list set inet fishery pool4')).toContain('192.0.2.0/24');
    expect(await somebody.connect('192.0.2.1', 0)).toMatch(/^socket-/);
    expect(await somebody.ask({ op: 'say', socket: old, text: 'there' })).toBe('said');
    await eventually(
      async () => ((await somebody.ask({ op: 'heard', socket: old })) === 'there' ? true : undefined),
      () => 'cut off',
    );
    // One that comes later is seen at the next look.
    lab.shell(lab.host, 'ip addr add 192.0.2.7/24 dev h0');
    await agent.until(({ host }) => host.problem?.includes('192.0.2.7') ?? false, 'it says nothing');
    expect(await somebody.connect('192.0.2.7', 0)).toMatch(/^socket-/);
  });
});

/** What `ip monitor rule` says of one family from now on. */
async function watchRules(family: '-4' | '-6'): Promise<() => readonly string[]> {
  const monitor = lab.spawn(lab.host, ['ip', family, 'monitor', 'rule']);
  let text = '';
  monitor.stdout?.on('data', (chunk: Buffer) => (text += chunk.toString()));
  // It does not say when it listens; a rule that comes and goes does.
  await eventually(
    () => {
      lab.shell(lab.host, `ip ${family} rule add priority 30000 lookup main; ip ${family} rule del priority 30000`);
      return text.includes('Deleted 30000') ? true : undefined;
    },
    () => 'ip monitor says nothing',
  );
  return () => text.split('\n').filter((line) => line.includes('lookup local'));
}

describe('an agent with fish', () => {
  it('sets the host up, exactly', async () => {
    const config = await lab.setUp({ settings: withFish });
    const agent = lab.startAgent(config);
    const status = await agent.until(({ lease_counts }) => lease_counts['up'] === 3, 'fish has not its leases');
    expect(status.fish).toMatchObject({ running: true, claims: 3, answered: 3 });
    expect(status.placeholders.open).toBe(64 + 16);
    // By a program on each device where replies may arrive; then early demux, further down, stays as it was.
    expect(status.steering).toMatchObject({ mode: 'ebpf', setting: 'auto' });

    expect(lab.shell(lab.host, 'ip -4 rule').split('\n')).toEqual([
      '10:\tfrom all fwmark 0x2a/0xff lookup 100 proto 70',
      '11:\tfrom all lookup local proto 70',
      '12:\tfrom all iif hc lookup 100 proto 70',
      '32766:\tfrom all lookup main',
      '32767:\tfrom all lookup default',
    ]);
    expect(lab.shell(lab.host, 'ip -6 rule').split('\n')).toEqual([
      '10:\tfrom all fwmark 0x2a/0xff lookup 100 proto 70',
      '11:\tfrom all lookup local proto 70',
      '12:\tfrom all iif hc lookup 100 proto 70',
      '32766:\tfrom all lookup main',
    ]);
    expect(
      lab
        .shell(lab.host, 'ip -4 route show table 100')
        .split('\n')
        .map((line) => line.trim()),
    ).toEqual(['default dev fishtun proto 70 scope link metric 1024', 'blackhole default proto 70 metric 9999']);
    expect(
      lab
        .shell(lab.host, 'ip -6 route show table 100')
        .split('\n')
        .map((line) => line.trim()),
    ).toEqual([
      'default dev fishtun proto 70 metric 1024 pref medium',
      'blackhole default dev lo proto 70 metric 9999 pref medium',
    ]);
    expect(
      lab
        .shell(
          lab.host,
          'cd /proc/sys/net/ipv4 && cat ip_local_port_range tcp_early_demux ping_group_range ' +
            'conf/hc/forwarding conf/h0/forwarding conf/fishtun/forwarding conf/fishtun/accept_local ip_forward',
        )
        .split('\n'),
    ).toEqual(['1024\t65535', '1', '0\t0', '1', '1', '1', '1', '0']);
    expect(lab.shell(lab.host, 'ip -o addr show dev lo')).toContain('198.51.100.10/32');
    expect(lab.shell(lab.host, 'ip -d link show fishtun')).toMatch(/tun type tun .*persist on/);

    const leases = (await lab.client.leases.list({ machine: 'edge' })).items;
    expect(leases.map(({ protocol, state }) => `${protocol} ${state}`).sort()).toEqual([
      'icmp active',
      'tcp active',
      'udp active',
    ]);
    const first = (protocol: string) => leases.find((lease) => lease.protocol === protocol)?.ports.first ?? NaN;
    const elements = (set: string) =>
      /elements = \{ (.*) \}/.exec(lab.shell(lab.host, `nft list set inet fishery ${set}`))?.[1];
    expect(elements('fish_tcp4_128')).toBe(`198.51.100.10 . ${first('tcp')}`);
    expect(elements('fish_udp4_64')).toBe(`198.51.100.10 . ${first('udp')}`);
    expect(elements('steer_udp4_64')).toBe(`198.51.100.10 . ${first('udp')}`);
    expect(elements('steer_icmp4_16')).toBe(`198.51.100.10 . ${first('icmp')}`);
    expect(lab.shell(lab.host, 'nft list table inet fishery')).not.toContain('steer_tcp4_128');

    const { text } = await agent.get('/metrics');
    expect(text).toContain('fishery_agent_guard_open 1');
    expect(text).toContain('fishery_agent_placeholders 80');
    expect(text).toContain('fishery_agent_packets_total{counter="guard_uid"}');
    expect(await agent.get('/healthz')).toEqual({ code: 200, text: 'ok\n' });
    expect(await agent.end()).toBe(0);
  });

  it('stops in order, if that is wanted: ports cool, the guard is shut; down restores the host byte for byte', async () => {
    const before = lab.fingerprint();
    const config = await lab.setUp({ settings: { ...withFish, keep: false } });
    const agent = lab.startAgent(config);
    await agent.until(({ lease_counts }) => lease_counts['up'] === 3, 'fish has not its leases');
    expect(await agent.end()).toBe(0);

    const { items } = await lab.client.leases.list({ machine: 'edge' });
    expect(items.map(({ state }) => state)).not.toContain('active');
    expect(items.map(({ state }) => state)).not.toContain('ending');
    expect(lab.shell(lab.host, 'nft list set inet fishery alive')).not.toContain('elements');
    expect(lab.shell(lab.host, 'ip rule')).toContain('11:\tfrom all lookup local');
    expect(lab.shell(lab.host, 'ip link show fishtun')).toContain('fishtun');

    lab.down(config);
    expect(lab.fingerprint()).toEqual(before);
    expect(lab.down(config)).toBe('nothing of the agent is on this host');
  });

  it('is undone by down byte for byte after it was killed', async () => {
    const before = lab.fingerprint();
    const config = await lab.setUp({ settings: withFish });
    const agent = lab.startAgent(config);
    await agent.until(({ lease_counts }) => lease_counts['up'] === 3, 'fish has not its leases');
    expect(lab.processes().filter((command) => /^(ip|nft|sh) /.test(command))).toEqual([]);
    expect(readState(lab.folder)).toMatchObject({
      machine: 'edge',
      recorded: { tun: 'fishtun', addresses: ['198.51.100.10'] },
    });
    await agent.end('SIGKILL');
    lab.down(config);
    expect(lab.fingerprint()).toEqual(before);
  });

  it('is not undone without its record, and can be once another agent has taken over what it left', async () => {
    const before = lab.fingerprint();
    const config = await lab.setUp({ settings: withFish });
    const first = lab.startAgent(config);
    await first.until(({ lease_counts }) => lease_counts['up'] === 3, 'fish has not its leases');
    await first.end('SIGKILL');
    const file = join(lab.folder, 'state', 'agent.json');
    const sysctls = Object.entries((readState(lab.folder) as Written).recorded.sysctls);
    const whole = () => ({
      ...lab.fingerprint(),
      nft: lab.shell(lab.host, 'nft --stateless list ruleset').replace(/ expires \S+/, ''),
    });
    const carrying = whole();

    // As after --state-dir was forgotten, or with a container whose volume is another one.
    expect(() => lab.down(`${config} --state-dir ${lab.folder}/elsewhere`)).toThrow(
      /table inet fishery, 6 rules .*elsewhere has no record .*--state-dir FOLDER/s,
    );
    writeFileSync(file, '{');
    expect(() => lab.down(config)).toThrow(/move it away and start the agent/);
    expect(whole()).toEqual(carrying);

    rmSync(file);
    const second = lab.startAgent(config);
    await second.ready();
    expect(second.output).toContain('no record of how it was before: they are taken over');
    expect(readState(lab.folder)).toMatchObject({
      recorded: {
        tun: 'fishtun',
        tun_before: null,
        addresses: ['198.51.100.10'],
        rules: ['-4 priority 0 lookup local', '-6 priority 0 lookup local'],
      },
    });
    await second.end('SIGKILL');
    expect(existsSync(join(lab.folder, 'state', 'agent.sock'))).toBe(true);
    lab.down(config);
    expect(existsSync(join(lab.folder, 'state', 'agent.sock'))).toBe(false);
    // What no host shows was in the record alone, and is put back by hand.
    for (const [key, value] of sysctls) lab.shell(lab.host, `printf '%s' '${value}' > /proc/sys/${key}`);
    expect(lab.fingerprint()).toEqual(before);
    expect(lab.shell(lab.host, 'ping -c 1 -W 5 192.0.2.1 && ping -c 1 -W 5 192.0.2.2')).toContain(' 0% packet loss');
    expect(lab.shell(lab.origin, 'ping -c 1 -W 5 192.0.2.1')).toContain(' 0% packet loss');
    expect(lab.down(config)).toBe('nothing of the agent is on this host');
  });

  it('puts a TUN device back as it was that was there before it', async () => {
    lab.shell(lab.host, 'ip tuntap add dev fishtun mode tun vnet_hdr && ip link set fishtun txqueuelen 77');
    // It was in use, so it has a queueing discipline, which cannot be taken away again.
    lab.shell(lab.host, 'ip link set fishtun up && ip link set fishtun down');
    // Without an IPv6 address of its own, for which the kernel makes a secret that stays.
    lab.shell(lab.host, 'sysctl -q net.ipv4.conf.fishtun.rp_filter=2 net.ipv6.conf.fishtun.addr_gen_mode=1');
    const queue = () => lab.shell(lab.host, 'cat /sys/class/net/fishtun/tx_queue_len');
    const before = [lab.fingerprint(), queue()];
    const config = await lab.setUp({ settings: withFish });
    const agent = lab.startAgent(config);
    await agent.until(({ lease_counts }) => lease_counts['up'] === 3, 'fish has not its leases');
    expect([lab.fingerprint(), queue()]).not.toEqual(before);
    await agent.end('SIGKILL');
    lab.down(config);
    expect([lab.fingerprint(), queue()]).toEqual(before);
  });

  it('goes on after it was killed, with the same session and leases', async () => {
    // However slow the machine is, the session is there when the next agent comes.
    const fish = { ...withFish.fish, session_ttl_s: 600 };
    const config = await lab.setUp({ fence_s: 3, settings: { ...withFish, fish } });
    const killed = lab.startAgent(config);
    await killed.until(({ lease_counts }) => lease_counts['up'] === 3, 'fish has not its leases');
    const before = (await lab.client.leases.list({ machine: 'edge', state: 'active' })).items.map(({ id }) => id);
    await killed.end('SIGKILL');

    const agent = lab.startAgent(config);
    const status = await agent.until(({ fish: it }) => it?.answered === 3, 'fish has not its leases back');
    expect(status.lease_counts).toEqual({ up: 3 });
    await agent.ready();
    const after = (await lab.client.leases.list({ machine: 'edge', state: 'active' })).items.map(({ id }) => id);
    expect(after.sort()).toEqual(before.sort());
    expect(agent.output).toContain('fish takes over its leases');
    expect(await agent.end()).toBe(0);
  });

  it('keeps everything for its successor when it is stopped, as far as its settings do not say otherwise', async () => {
    const config = await lab.setUp({ settings: withFish });
    const first = lab.startAgent(config);
    await first.until(({ lease_counts }) => lease_counts['up'] === 3, 'fish has not its leases');
    expect(await first.end()).toBe(0);
    expect(lab.shell(lab.host, 'nft list set inet fishery alive')).toContain('elements');
    expect((await lab.client.leases.list({ machine: 'edge', state: 'active' })).items).toHaveLength(3);
  });
});

describe('fish that the settings want no more', () => {
  it('is taken away by the next agent, with what a former one left for it, and proxies are served', async () => {
    const config = await lab.setUp({ settings: withFish });
    await lab.client.machines.putHolder('edge', 'web', { kind: 'proxy', uid: 2_001 });
    const origin = await lab.user(lab.origin, 0);
    await origin.ask({ op: 'echo', on: '203.0.113.1', port: 80 });
    const before = lab.fingerprint();
    const first = lab.startAgent(config);
    await first.until(({ lease_counts }) => lease_counts['up'] === 3, 'fish has not its leases');
    expect(await first.end()).toBe(0);
    expect(lab.shell(lab.host, 'ip link show fishtun')).toContain('fishtun');

    const without = lab.configure({ ...withFish, fish: { ...withFish.fish, enabled: false } });
    const second = lab.startAgent(without);
    await second.ready();
    expect((await second.status()).guard).toMatchObject({ stands: true, open: true });
    expect(second.output).toMatch(/fish is not wanted: end keeper 0 with \d+ descriptors/);
    expect(lab.shell(lab.host, 'ip -o link')).not.toContain('fishtun');
    const { id: session } = await lab.client.sessions.open({ machine: 'edge', holder: 'web', ttl_s: 600 });
    const claims = [{ protocol: 'tcp' as const, ports: 8 }];
    const { leases } = await lab.client.leases.grant({ session, claims }, { wait: 'applied' });
    const web = await lab.user(lab.host, 2_001);
    expect(await web.connect('198.51.100.10', leases[0]?.ports.first ?? NaN)).toMatch(/^socket-/);
    await second.end('SIGKILL');
    lab.down(without);
    expect(lab.fingerprint()).toEqual(before);
  });
});

describe('the local table', () => {
  it('is reachable at every moment, up and down', async () => {
    const config = await lab.setUp({ settings: withFish });
    const listeners = [await watchRules('-4'), await watchRules('-6')];
    const agent = lab.startAgent(config);
    await agent.ready();
    await agent.end();
    lab.down(config);
    for (const heard of listeners)
      expect(
        await eventually(
          () => (heard().length >= 4 ? heard().map((line) => line.replace(/:.*/, '')) : undefined),
          () => heard().join('\n'),
        ),
      ).toEqual(['11', 'Deleted 0', '0', 'Deleted 11']);
  });
});
