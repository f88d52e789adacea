import { fc, test } from '@fast-check/vitest';
import { describe, expect, it } from 'vitest';
import { desiredHost, type HostLoad } from '../../../src/agent/host/desired-host.ts';
import { nothingRecorded, type Step } from '../../../src/agent/host/host-state.ts';
import { bareHost, plan, planDown } from '../../../src/agent/host/plan.ts';
import type { Prefix } from '../../../src/net/prefix.ts';
import { withFish, withoutFish } from '../../support/agent-values.ts';
import { address, FakeHost } from '../../support/fake-host.ts';
import { Bench, load, setClass, transcript } from '../../support/plan-bench.ts';

describe('the way up', () => {
  it('on a bare host with fish reads like this', async () => {
    const bench = new Bench();
    const steps = await bench.reach((recorded) => desiredHost(withFish, load(), recorded));
    expect(transcript(steps)).toEqual([
      'record net/ipv4/ip_local_port_range was "32768\t60999"; net/ipv4/tcp_early_demux was "1"; ' +
        'net/ipv4/ping_group_range was "1\t0"; net/ipv4/conf/client0/forwarding was "0"; ' +
        'net/ipv4/conf/up0/forwarding was "0"; tun fishtun is ours; rule -4 priority 0 lookup local was there; ' +
        'rule -6 priority 0 lookup local was there; 198.51.100.10 is ours',
      'nft load table inet fishery with sets: own_tcp4_128',
      'nft add element own_tcp4_128 { 198.51.100.10 . 9088 }',
      'sysctl net/ipv4/ip_local_port_range = 1024 65535',
      'sysctl net/ipv4/tcp_early_demux = 0',
      'sysctl net/ipv4/ping_group_range = 0 0',
      'sysctl net/ipv4/conf/client0/forwarding = 1',
      'sysctl net/ipv4/conf/up0/forwarding = 1',
      'tun add fishtun',
      'sysctl net/ipv4/conf/fishtun/forwarding = 1',
      'sysctl net/ipv4/conf/fishtun/accept_local = 1',
      'sysctl net/ipv4/conf/fishtun/rp_filter = 0',
      'sysctl net/ipv6/conf/fishtun/addr_gen_mode = 1',
      'ip link set fishtun up',
      'ip -4 route add default dev fishtun metric 1024 table 100',
      'ip -4 route add blackhole default metric 9999 table 100',
      'ip -6 route add default dev fishtun metric 1024 table 100',
      'ip -6 route add blackhole default metric 9999 table 100',
      'ip -4 rule add priority 11 lookup local',
      'ip -6 rule add priority 11 lookup local',
      'ip -4 rule add priority 10 fwmark 0x2a/0xff lookup 100',
      'ip -4 rule add priority 12 iif client0 lookup 100',
      'ip -6 rule add priority 10 fwmark 0x2a/0xff lookup 100',
      'ip -6 rule add priority 12 iif client0 lookup 100',
      'ip -4 rule del priority 0 lookup local',
      'ip -6 rule del priority 0 lookup local',
      'ip addr add 198.51.100.10 dev lo',
    ]);
  });

  it('on a bare host for proxies alone touches no route, no rule and no device', async () => {
    const bench = new Bench();
    const steps = await bench.reach((recorded) => desiredHost(withoutFish, load(), recorded));
    expect(transcript(steps)).toEqual([
      'record net/ipv4/ip_local_port_range was "32768\t60999"; 198.51.100.10 is ours',
      'nft load table inet fishery with sets: own_tcp4_128',
      'nft add element own_tcp4_128 { 198.51.100.10 . 9088 }',
      'sysctl net/ipv4/ip_local_port_range = 1024 65535',
      'ip addr add 198.51.100.10 dev lo',
    ]);
  });

  it('with a terminator and no fish adds its own table, and leaves the way to the local one as it is; and takes it away', async () => {
    const bench = new Bench();
    bench.host.sysctls.set('net/ipv4/tcp_tw_reuse', '2');
    const paths = { rules: [], otherwise: 'terminate' as const };
    const settings = {
      ...withoutFish,
      clientInterfaces: ['client0', 'client1'],
      terminate: { port: 7_490, mark: 0x2b, routeTable: 101, paths },
    };
    const steps = await bench.reach((recorded) => desiredHost(settings, load(), recorded));
    expect(transcript(steps)).toEqual([
      'record net/ipv4/ip_local_port_range was "32768\t60999"; net/ipv4/tcp_tw_reuse was "2"; 198.51.100.10 is ours',
      'nft load table inet fishery with sets: own_tcp4_128',
      'nft add element own_tcp4_128 { 198.51.100.10 . 9088 }',
      'sysctl net/ipv4/ip_local_port_range = 1024 65535',
      'sysctl net/ipv4/tcp_tw_reuse = 1',
      'ip -4 route add local default metric 1024 table 101',
      'ip -6 route add local default metric 1024 table 101',
      'ip -4 rule add priority 10 iif client0 fwmark 0x2b/0xff lookup 101',
      'ip -4 rule add priority 10 iif client1 fwmark 0x2b/0xff lookup 101',
      'ip -6 rule add priority 10 iif client0 fwmark 0x2b/0xff lookup 101',
      'ip -6 rule add priority 10 iif client1 fwmark 0x2b/0xff lookup 101',
      'ip addr add 198.51.100.10 dev lo',
    ]);
    const without = transcript(await bench.reach((recorded) => desiredHost(withoutFish, load(), recorded)));
    expect(without.slice(0, 4)).toEqual([
      'ip -4 rule del priority 10 iif client0 fwmark 0x2b/0xff lookup 101',
      'ip -4 rule del priority 10 iif client1 fwmark 0x2b/0xff lookup 101',
      'ip -6 rule del priority 10 iif client0 fwmark 0x2b/0xff lookup 101',
      'ip -6 rule del priority 10 iif client1 fwmark 0x2b/0xff lookup 101',
    ]);
    expect(without).toContain('ip -4 route del local default metric 1024 table 101');
    expect(without).toContain('sysctl net/ipv4/tcp_tw_reuse = 2');
  });

  it('leaves what is wide enough as it is, and does not take over what was there before', async () => {
    const bench = new Bench();
    bench.host.sysctls.set('net/ipv4/ip_local_port_range', '1000\t65535');
    bench.host.sysctls.set('net/ipv4/ping_group_range', '0\t2147483647');
    bench.host.addresses.add(address('198.51.100.10'));
    const steps = await bench.reach((recorded) => desiredHost(withFish, load(), recorded));
    const lines = transcript(steps).join('\n');
    expect(lines).not.toContain('ip_local_port_range');
    expect(lines).not.toContain('ping_group_range');
    expect(lines).not.toContain('198.51.100.10 dev lo');
    expect(bench.recorded.addresses).toEqual(new Set());
  });

  it('makes reverse path filtering loose on the TUN where it is strict for all', async () => {
    const bench = new Bench();
    bench.host.sysctls.set('net/ipv4/conf/all/rp_filter', '1');
    const steps = await bench.reach((recorded) => desiredHost(withFish, load(), recorded));
    expect(transcript(steps)).toContain('sysctl net/ipv4/conf/fishtun/rp_filter = 2');
  });

  it('makes strict filtering loose where replies arrive if the mark counts for it, and puts it back', async () => {
    const [filter, marks] = ['rp_filter', 'src_valid_mark'];
    const loose = async (own: string, more: Readonly<Record<string, string>>) => {
      const bench = new Bench();
      bench.host.sysctls.set('net/ipv4/conf/up0/rp_filter', own);
      for (const [name, value] of Object.entries(more)) bench.host.sysctls.set(`net/ipv4/conf/${name}`, value);
      await bench.reach((recorded) => desiredHost(withFish, load(), recorded));
      const reached = bench.host.sysctls.get('net/ipv4/conf/up0/rp_filter');
      await bench.reach(bareHost);
      expect(bench.host.sysctls.get('net/ipv4/conf/up0/rp_filter')).toBe(own);
      return reached;
    };
    expect(await loose('1', {})).toBe('1');
    expect(await loose('1', { [`all/${marks}`]: '0', [`up0/${marks}`]: '0' })).toBe('1');
    expect(await loose('1', { [`all/${marks}`]: '1' })).toBe('2');
    expect(await loose('1', { [`up0/${marks}`]: '1' })).toBe('2');
    expect(await loose('0', { [`all/${marks}`]: '1' })).toBe('0');
    expect(await loose('0', { [`all/${marks}`]: '1', [`all/${filter}`]: '1' })).toBe('2');
    expect(await loose('1', { [`all/${marks}`]: '1', [`all/${filter}`]: '2' })).toBe('1');
  });

  it('speaks only the families that the host speaks', async () => {
    const bench = new Bench();
    const both = load({ families: [4], addresses: [address('198.51.100.10'), address('2001:db8::10')] });
    const steps = await bench.reach((recorded) => desiredHost(withFish, both, recorded));
    expect(transcript(steps).filter((line) => line.includes('-6') || line.includes('2001:db8'))).toEqual([]);
    expect(transcript(steps).filter((line) => line.includes('ipv6'))).toEqual([]);
  });

  it('gives a family that is switched off its rules back, and takes them again when it is on', async () => {
    const bench = new Bench();
    const before = [...bench.host.rules.keys()].filter((rule) => rule.startsWith('-6'));
    const rules6 = () => [...bench.host.rules.keys()].filter((rule) => rule.startsWith('-6')).sort();
    await bench.reach((recorded) => desiredHost(withFish, load(), recorded));
    const led = rules6();
    expect(led).toContain('-6 priority 11 lookup local');
    const only4 = load({ families: [4, 6], tunFamilies: [4] });
    const steps = transcript(await bench.reach((recorded) => desiredHost(withFish, only4, recorded)));
    expect(steps.filter((line) => / (rule|route) /.test(line) && !line.includes('ip -6'))).toEqual([
      expect.stringMatching(/^forget /),
    ]);
    expect(rules6()).toEqual(before.sort());
    expect([...bench.recorded.rules].filter((rule) => rule.startsWith('-6'))).toEqual([]);
    await bench.reach((recorded) => desiredHost(withFish, load(), recorded));
    expect(rules6()).toEqual(led);
  });

  it('waits with a client interface that is not there yet', async () => {
    const bench = new Bench();
    bench.host.sysctls.delete('net/ipv4/conf/client0/forwarding');
    await bench.reach((recorded) => desiredHost(withFish, load(), recorded));
    bench.host.sysctls.set('net/ipv4/conf/client0/forwarding', '0');
    const steps = await bench.reach((recorded) => desiredHost(withFish, load(), recorded));
    expect(transcript(steps)).toEqual([
      'record net/ipv4/conf/client0/forwarding was "0"',
      'sysctl net/ipv4/conf/client0/forwarding = 1',
    ]);
  });

  it('moves a local rule that stands before the mark, wherever it stands', async () => {
    const bench = new Bench();
    bench.host.rules.delete('-4 priority 0 lookup local');
    bench.host.rules.set('-4 priority 5 lookup local', 'foreign');
    const steps = transcript(await bench.reach((recorded) => desiredHost(withFish, load(), recorded)));
    expect(steps.indexOf('ip -4 rule del priority 5 lookup local')).toBeGreaterThan(
      steps.indexOf('ip -4 rule add priority 11 lookup local'),
    );
    expect(bench.recorded.rules).toEqual(new Set(['-4 priority 5 lookup local', '-6 priority 0 lookup local']));
  });
});

describe('changes on the way', () => {
  const upAndRunning = async (settings = withFish) => {
    const bench = new Bench();
    await bench.reach((recorded) => desiredHost(settings, load(), recorded));
    return bench;
  };

  it('are none when nothing differs', async () => {
    const bench = await upAndRunning();
    expect(plan(bench.host.state(), desiredHost(withFish, load(), bench.recorded), bench.recorded)).toEqual([]);
  });

  it('take an address away before its prefix leaves the guard, and add one after its prefix is in', async () => {
    const bench = await upAndRunning();
    const elsewhere = load({ prefixes: ['203.0.113.0/24'] as Prefix[], addresses: [address('203.0.113.7')] });
    const steps = await bench.reach((recorded) => desiredHost(withFish, elsewhere, recorded));
    expect(transcript(steps)).toEqual([
      'record 203.0.113.7 is ours',
      'ip addr del 198.51.100.10 dev lo',
      'nft load table inet fishery with sets: own_tcp4_128',
      'ip addr add 203.0.113.7 dev lo',
      'forget 198.51.100.10 is ours',
    ]);
  });

  it('remove elements that are not needed before adding those that are', async () => {
    const bench = await upAndRunning();
    const other = load({ elements: new Map([['own_tcp4_128', new Set(['198.51.100.10 . 9216'])]]) });
    const steps = await bench.reach((recorded) => desiredHost(withFish, other, recorded));
    expect(transcript(steps)).toEqual([
      'nft delete element own_tcp4_128 { 198.51.100.10 . 9088 }',
      'nft add element own_tcp4_128 { 198.51.100.10 . 9216 }',
    ]);
  });

  it.each([
    ['the table was flushed away', (host: FakeHost) => (host.table = undefined), 'nft load table inet fishery'],
    ['a rule in the table was changed', (host: FakeHost) => host.table && (host.table.text = null), 'nft load table'],
    [
      'a rule was deleted',
      (host: FakeHost) => host.rules.delete('-4 priority 11 lookup local'),
      'ip -4 rule add priority 11',
    ],
    [
      'the old rule came back',
      (host: FakeHost) => host.rules.set('-4 priority 0 lookup local', 'foreign'),
      'ip -4 rule del priority 0',
    ],
    [
      'a sysctl was set back',
      (host: FakeHost) => host.sysctls.set('net/ipv4/tcp_early_demux', '1'),
      'sysctl net/ipv4/tcp_early_demux = 0',
    ],
    ['the device is down', (host: FakeHost) => (host.tun = 'down'), 'ip link set fishtun up'],
    [
      'an address was removed',
      (host: FakeHost) => host.addresses.delete(address('198.51.100.10')),
      'ip addr add 198.51.100.10',
    ],
    [
      'an element was added',
      (host: FakeHost) => host.table?.sets.get('own_tcp4_128')?.add('198.51.100.10 . 0'),
      'nft delete element own_tcp4_128 { 198.51.100.10 . 0 }',
    ],
  ])('put it back when %s', async (_what, meddle, expected) => {
    const bench = await upAndRunning();
    meddle(bench.host);
    const steps = await bench.reach((recorded) => desiredHost(withFish, load(), recorded));
    expect(transcript(steps)[0]).toContain(expected);
    expect(plan(bench.host.state(), desiredHost(withFish, load(), bench.recorded), bench.recorded)).toEqual([]);
  });

  it('give everything of fish back when it is switched off, and keep the rest', async () => {
    const bench = await upAndRunning();
    const before = new FakeHost();
    await bench.reach((recorded) => desiredHost(withoutFish, load(), recorded));
    expect(bench.host.rules).toEqual(before.rules);
    expect(bench.host.routes.size).toBe(0);
    expect(bench.host.tun).toBe('absent');
    expect(bench.host.sysctls.get('net/ipv4/tcp_early_demux')).toBe('1');
    expect(bench.host.sysctls.get('net/ipv4/ip_local_port_range')).toBe('1024 65535');
    expect(bench.host.addresses).toContain('198.51.100.10');
  });

  it('replace the rule of another mark', async () => {
    const bench = await upAndRunning();
    const steps = await bench.reach((recorded) => desiredHost({ ...withFish, mark: 0x2b }, load(), recorded));
    const lines = transcript(steps);
    expect(lines).toContain('ip -4 rule del priority 10 fwmark 0x2a/0xff lookup 100');
    expect(lines).toContain('ip -4 rule add priority 10 fwmark 0x2b/0xff lookup 100');
  });
});

describe('steering by a program', () => {
  const byProgram = { ...withFish, steering: 'ebpf' } as const;
  const upAndRunning = async () => {
    const bench = new Bench();
    const steps = await bench.reach((recorded) => desiredHost(byProgram, load(), recorded));
    return { bench, lines: transcript(steps) };
  };

  it('lets early demux alone, and attaches where replies arrive, and only there, once the TUN is up', async () => {
    const { bench, lines } = await upAndRunning();
    expect(lines.join('\n')).not.toContain('early_demux');
    expect(
      lines.slice(lines.indexOf('ip link set fishtun up')).filter((line) => !/^ip -[46]|^ip addr/.test(line)),
    ).toEqual(['ip link set fishtun up', 'tcx ingress up0: attach fishery steering']);
    expect(plan(bench.host.state(), desiredHost(byProgram, load(), bench.recorded), bench.recorded)).toEqual([]);
  });

  it.each([
    ['somebody detached it', (host: FakeHost) => host.steering.set('up0', 'lost')],
    ['it is another version, or for another mark', (host: FakeHost) => host.steering.set('up0', 'stale')],
    ['the device is new', (host: FakeHost) => host.steering.delete('up0')],
  ])('attaches again when %s', async (_what, meddle) => {
    const { bench } = await upAndRunning();
    meddle(bench.host);
    const steps = await bench.reach((recorded) => desiredHost(byProgram, load(), recorded));
    expect(transcript(steps)).toEqual(['tcx ingress up0: attach fishery steering']);
  });

  it('follows a TUN device that had to be made anew, once that is up', async () => {
    const { bench } = await upAndRunning();
    await bench.host.carryOut([{ do: 'remove-tun', name: 'fishtun' }]);
    const lines = transcript(await bench.reach((recorded) => desiredHost(byProgram, load(), recorded)));
    expect(lines.indexOf('tcx ingress up0: attach fishery steering')).toBeGreaterThan(
      lines.indexOf('ip link set fishtun up'),
    );
  });

  it('waits with a device that is not there', async () => {
    const bench = new Bench();
    bench.host.absentDevices.add('up0');
    const steps = await bench.reach((recorded) => desiredHost(byProgram, load(), recorded));
    expect(transcript(steps)).not.toContain('tcx ingress up0: attach fishery steering');
    bench.host.absentDevices.delete('up0');
    const later = await bench.reach((recorded) => desiredHost(byProgram, load(), recorded));
    expect(transcript(later)).toEqual(['tcx ingress up0: attach fishery steering']);
  });

  it("attaches to clients' devices where no uplink is named", async () => {
    const alike = { ...byProgram, uplinks: [] };
    const steps = await new Bench().reach((recorded) => desiredHost(alike, load(), recorded));
    expect(transcript(steps)).toContain('tcx ingress client0: attach fishery steering');
  });

  it('takes turns with nftables so that replies never meet their placeholders', async () => {
    const { bench } = await upAndRunning();
    const away = transcript(await bench.reach((recorded) => desiredHost(withFish, load(), recorded)));
    expect(away).toEqual([
      'record net/ipv4/tcp_early_demux was "1"',
      'sysctl net/ipv4/tcp_early_demux = 0',
      'tcx ingress up0: detach fishery steering',
    ]);
    const back = transcript(await bench.reach((recorded) => desiredHost(byProgram, load(), recorded)));
    expect(back).toEqual([
      'tcx ingress up0: attach fishery steering',
      'sysctl net/ipv4/tcp_early_demux = 1',
      'forget net/ipv4/tcp_early_demux was "1"',
    ]);
  });

  it('is gone on the way down', async () => {
    const before = new FakeHost().state();
    const { bench } = await upAndRunning();
    const steps = planDown(bench.host.state(), bench.recorded);
    const lines = transcript(steps);
    expect(lines.indexOf('tcx ingress up0: detach fishery steering')).toBeLessThan(lines.indexOf('tun del fishtun'));
    await bench.carryOut(steps);
    expect(bench.host.state()).toEqual(before);
  });
});

describe('clients on the host itself', () => {
  it('get a rule for each of their addresses, behind the local table', async () => {
    const bench = new Bench();
    const localClients = ['100.64.255.1/32', '100.64.254.0/30'] as Prefix[];
    const steps = await bench.reach((recorded) => desiredHost({ ...withFish, localClients }, load(), recorded));
    expect(transcript(steps).filter((line) => line.includes('iif lo'))).toEqual([
      'ip -4 rule add priority 12 from 100.64.254.0/30 iif lo lookup 100',
      'ip -4 rule add priority 12 from 100.64.255.1 iif lo lookup 100',
    ]);
  });
});

describe('forwarding of IPv6, for clients that speak it', () => {
  const settings = { ...withFish, uplinks: ['eth0'], clientInterfaces: ['eth1'], forwardsIpv6: true };
  const writes = (steps: readonly Step[]) =>
    transcript(steps).filter((line) => /^sysctl .*ipv6.*(forwarding|accept_ra)/.test(line));
  const hostWith = (bench: Bench, values: Readonly<Record<string, string>>) => {
    for (const [key, value] of Object.entries(values)) bench.host.sysctls.set(`net/ipv6/conf/${key}`, value);
    return bench;
  };

  it('is that of single devices where the kernel can', async () => {
    const bench = hostWith(new Bench(), {
      'lo/force_forwarding': '0',
      'eth0/force_forwarding': '0',
      'eth1/force_forwarding': '0',
      'eth0/accept_ra': '1',
      'all/forwarding': '0',
    });
    const before = bench.host.state().sysctls;
    expect(writes(await bench.reach((recorded) => desiredHost(settings, load(), recorded)))).toEqual([
      'sysctl net/ipv6/conf/eth1/force_forwarding = 1',
      'sysctl net/ipv6/conf/eth0/force_forwarding = 1',
      `sysctl net/ipv6/conf/${settings.tun}/force_forwarding = 1`,
    ]);
    await bench.carryOut(planDown(bench.host.state(), bench.recorded));
    expect(bench.host.state().sysctls).toEqual(before);
  });

  it('is the whole host’s elsewhere, which goes on listening to router advertisements where it did', async () => {
    const bench = hostWith(new Bench(), { 'eth0/accept_ra': '1', 'eth1/accept_ra': '0', 'all/forwarding': '0' });
    const before = bench.host.state().sysctls;
    expect(writes(await bench.reach((recorded) => desiredHost(settings, load(), recorded)))).toEqual([
      'sysctl net/ipv6/conf/eth0/accept_ra = 2',
      'sysctl net/ipv6/conf/all/forwarding = 1',
    ]);
    expect(writes(await bench.reach((recorded) => desiredHost(settings, load(), recorded)))).toEqual([]);
    await bench.carryOut(planDown(bench.host.state(), bench.recorded));
    expect(bench.host.state().sysctls).toEqual(before);
  });

  it('is left alone where no client, or not the host, speaks it', async () => {
    const values = { 'eth0/accept_ra': '1', 'all/forwarding': '0' };
    for (const [more, families] of [
      [{ forwardsIpv6: false }, [4, 6]],
      [{}, [4]],
    ] as const) {
      const bench = hostWith(new Bench(), values);
      const steps = await bench.reach((recorded) =>
        desiredHost({ ...settings, ...more }, load({ families }), recorded),
      );
      expect(writes(steps)).toEqual([]);
    }
  });
});

describe('the way down', () => {
  it('is the way up in reverse, and leaves the host as it was', async () => {
    const bench = new Bench();
    const before = new FakeHost().state();
    await bench.reach((recorded) => desiredHost(withFish, load(), recorded));
    const steps = planDown(bench.host.state(), bench.recorded);
    await bench.carryOut(steps);
    expect(transcript(steps)).toEqual([
      'ip addr del 198.51.100.10 dev lo',
      'ip -4 rule del priority 10 fwmark 0x2a/0xff lookup 100',
      'ip -4 rule del priority 12 iif client0 lookup 100',
      'ip -6 rule del priority 10 fwmark 0x2a/0xff lookup 100',
      'ip -6 rule del priority 12 iif client0 lookup 100',
      'ip -4 rule add priority 0 lookup local',
      'ip -6 rule add priority 0 lookup local',
      'ip -4 rule del priority 11 lookup local',
      'ip -6 rule del priority 11 lookup local',
      'ip -4 route del blackhole default metric 9999 table 100',
      'ip -4 route del default dev fishtun metric 1024 table 100',
      'ip -6 route del blackhole default metric 9999 table 100',
      'ip -6 route del default dev fishtun metric 1024 table 100',
      'tun del fishtun',
      'nft delete table inet fishery',
      'sysctl net/ipv4/ip_local_port_range = 32768\t60999',
      'sysctl net/ipv4/tcp_early_demux = 1',
      'sysctl net/ipv4/ping_group_range = 1\t0',
      'sysctl net/ipv4/conf/client0/forwarding = 0',
      'sysctl net/ipv4/conf/up0/forwarding = 0',
      'forget net/ipv4/ip_local_port_range was "32768\t60999"; net/ipv4/tcp_early_demux was "1"; ' +
        'net/ipv4/ping_group_range was "1\t0"; net/ipv4/conf/client0/forwarding was "0"; ' +
        'net/ipv4/conf/up0/forwarding was "0"; tun fishtun is ours; rule -4 priority 0 lookup local was there; ' +
        'rule -6 priority 0 lookup local was there; 198.51.100.10 is ours',
    ]);
    expect(bench.host.state()).toEqual(before);
    expect(bench.recorded).toEqual(nothingRecorded);
  });

  it('leaves an address and a device that were there before the agent', async () => {
    const bench = new Bench();
    bench.host.addresses.add(address('198.51.100.10'));
    await bench.host.carryOut([{ do: 'make-tun', name: 'fishtun' }]);
    await bench.reach((recorded) => desiredHost(withFish, load(), recorded));
    await bench.carryOut(planDown(bench.host.state(), bench.recorded));
    expect(bench.host.addresses).toContain('198.51.100.10');
    expect(bench.host.tun).toBe('down');
  });

  it('puts a device that was there before the agent back as it was', async () => {
    const bench = new Bench();
    await bench.host.carryOut([{ do: 'make-tun', name: 'fishtun' }]);
    bench.host.sysctls.set('net/ipv4/conf/fishtun/rp_filter', '2');
    bench.host.tunQueue = 77;
    const before = bench.host.state();
    const steps = await bench.reach((recorded) => desiredHost(withFish, load(), recorded));
    expect(transcript(steps)).not.toContain('sysctl net/ipv6/conf/fishtun/addr_gen_mode = 1');
    expect(transcript(steps)[0]).toContain('tun fishtun was there, down, with txqueuelen 77');
    // Fish makes it as long as the settings say.
    bench.host.tunQueue = 4_096;
    const down = planDown(bench.host.state(), bench.recorded);
    expect(transcript(down)).toContain('ip link set fishtun txqueuelen 77');
    await bench.carryOut(down);
    expect(bench.host.state()).toEqual(before);
    expect(bench.recorded).toEqual(nothingRecorded);
  });

  it('does nothing on a host that carries nothing', () => {
    expect(planDown(new FakeHost().state(), nothingRecorded)).toEqual([]);
  });
});

describe('any plan, from any host the agent may meet', () => {
  const addresses = ['198.51.100.10', '198.51.100.11', '203.0.113.7', '2001:db8::10'].map(address);
  const prefixOf = (text: string): Prefix =>
    (text.includes(':') ? '2001:db8::/48' : text.replace(/\.\d+$/, '.0/24')) as Prefix;
  const names = ['own_tcp4_128', 'own_uid_tcp4_128', 'fish_udp4_16', 'steer_udp4_16'];
  const anyLoad: fc.Arbitrary<HostLoad> = fc
    .record({
      families: fc.constant([4, 6] as const),
      addresses: fc.uniqueArray(fc.constantFrom(...addresses)),
      classes: fc.uniqueArray(fc.constantFrom(...names)).map((picked) => picked.map(setClass)),
    })
    .chain(({ families, addresses: picked, classes }) => {
      const sets = classes.map(({ role, protocol, family, size }) => `${role}_${protocol}${family}_${size}`);
      return fc.record({
        families: fc.constant(families),
        addresses: fc.constant(picked),
        prefixes: fc.constant([...new Set(picked.map(prefixOf))]),
        hostAddresses: fc.constant([]),
        classes: fc.constant(classes),
        elements: fc
          .array(fc.uniqueArray(fc.constantFrom('198.51.100.10 . 0', '198.51.100.10 . 128')), {
            minLength: sets.length,
            maxLength: sets.length,
          })
          .map((keys) => new Map(sets.map((set, index) => [set, new Set(keys[index])]))),
      });
    });
  const anySettings = fc
    .record({ fish: fc.boolean(), mark: fc.constantFrom(0x2a, 0x2b) })
    .map((over) => ({ ...withFish, ...over }));
  const anyDesired = fc.tuple(anySettings, anyLoad);

  /** Every pool address that the agent put on the host is in a prefix that the loaded text guards. */
  const unguarded = ({ host, recorded }: Bench): readonly string[] =>
    [...recorded.addresses].filter(
      (each) => host.addresses.has(each) && !(host.table?.text ?? '').includes(prefixOf(each)),
    );

  test.prop([fc.array(anyDesired, { minLength: 1, maxLength: 5 })])(
    'reaches what is desired, is safe at every step, and has nothing left to do',
    async (wishes) => {
      const bench = new Bench();
      bench.host.onStep = () => {
        expect(bench.host.familiesWithoutLocal()).toEqual([]);
        expect(unguarded(bench)).toEqual([]);
      };
      for (const [settings, wanted] of wishes) {
        await bench.reach((recorded) => desiredHost(settings, wanted, recorded));
        const again = plan(bench.host.state(), desiredHost(settings, wanted, bench.recorded), bench.recorded);
        expect(transcript(again)).toEqual([]);
        const { addresses: reached } = bench.host;
        expect(wanted.addresses.filter((each) => !reached.has(each))).toEqual([]);
        expect(bench.host.state().elements).toEqual(wanted.elements);
      }
      await bench.carryOut(planDown(bench.host.state(), bench.recorded));
      expect(bench.host.state()).toEqual(new FakeHost().state());
      expect(plan(bench.host.state(), bareHost(bench.recorded), bench.recorded)).toEqual([]);
    },
  );

  test.prop([anyDesired, fc.nat({ max: 40 })])(
    'goes on after it was cut off anywhere, and can be undone from there',
    async ([settings, wanted], cut) => {
      const bench = new Bench();
      const steps = plan(bench.host.state(), desiredHost(settings, wanted, bench.recorded), bench.recorded);
      await bench.carryOut(steps.slice(0, cut));
      const undone = new Bench();
      await undone.carryOut(steps.slice(0, cut));
      await undone.carryOut(planDown(undone.host.state(), undone.recorded));
      expect(undone.host.state()).toEqual(new FakeHost().state());

      await bench.reach((recorded) => desiredHost(settings, wanted, recorded));
      const again = plan(bench.host.state(), desiredHost(settings, wanted, bench.recorded), bench.recorded);
      expect(transcript(again)).toEqual([]);
    },
  );
});
