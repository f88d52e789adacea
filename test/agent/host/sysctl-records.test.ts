import { describe, expect, it } from 'vitest';
import { desiredHost } from '../../../src/agent/host/desired-host.ts';
import { nothingRecorded } from '../../../src/agent/host/host-state.ts';
import { plan, planDown } from '../../../src/agent/host/plan.ts';
import { leftAsSet } from '../../../src/agent/host/sysctl-records.ts';
import { withFish } from '../../support/agent-values.ts';
import { Bench, load } from '../../support/plan-bench.ts';

describe('the way down, where others have set sysctls since', () => {
  const port = 'net/ipv4/ip_local_port_range';
  const ping = 'net/ipv4/ping_group_range';
  const [all, device] = ['net/ipv4/conf/all/forwarding', 'net/ipv4/conf/up0/forwarding'];
  const begun = async () => {
    const bench = new Bench();
    bench.host.sysctls.set(all, '0');
    await bench.reach((recorded) => desiredHost(withFish, load(), recorded));
    return bench;
  };
  const goDown = async (bench: Bench) => {
    const left = leftAsSet(bench.host.state(), bench.recorded);
    await bench.carryOut(planDown(bench.host.state(), bench.recorded));
    expect(bench.recorded).toEqual(nothingRecorded);
    return left;
  };

  it('leaves alone what is not as the agent has set it, and says so', async () => {
    const bench = await begun();
    bench.host.sysctls.set(ping, '0\t2147483647').set(port, '1000\t65535');
    expect(plan(bench.host.state(), desiredHost(withFish, load(), bench.recorded), bench.recorded)).toEqual([]);
    expect(await goDown(bench)).toEqual([
      `sysctl ${port} stays "1000 65535": somebody else has set it since (the agent had set "1024 65535"); before the agent it was "32768 60999"`,
      `sysctl ${ping} stays "0 2147483647": somebody else has set it since (the agent had set "0 0"); before the agent it was "1 0"`,
    ]);
    expect([bench.host.sysctls.get(ping), bench.host.sysctls.get(port)]).toEqual(['0\t2147483647', '1000\t65535']);
    expect(bench.host.sysctls.get('net/ipv4/tcp_early_demux')).toBe('1');
  });

  it('puts back what others had set, where the agent had to change that again', async () => {
    const bench = await begun();
    bench.host.sysctls.set(port, '20000\t65000');
    await bench.reach((recorded) => desiredHost(withFish, load(), recorded));
    expect(bench.host.sysctls.get(port)).toBe('1024 65535');
    expect(await goDown(bench)).toEqual([]);
    expect(bench.host.sysctls.get(port)).toBe('20000\t65000');
  });

  it('keeps how it was first, however often the agent changes its mind', async () => {
    const bench = await begun();
    bench.host.sysctls.set('net/ipv4/conf/all/rp_filter', '1');
    await bench.reach((recorded) => desiredHost({ ...withFish, steering: 'ebpf' }, load(), recorded));
    await bench.reach((recorded) => desiredHost(withFish, load(), recorded));
    expect(await goDown(bench)).toEqual([]);
    expect([port, ping].map((key) => bench.host.sysctls.get(key))).toEqual(['32768\t60999', '1\t0']);
  });

  it('leaves devices forwarding where the whole host does by now, and not where it did before', async () => {
    const bench = await begun();
    for (const key of [all, device, 'net/ipv4/conf/client0/forwarding']) bench.host.sysctls.set(key, '1');
    expect(await goDown(bench)).toEqual(
      ['net/ipv4/conf/client0/forwarding', device].map(
        (key) =>
          `sysctl ${key} stays "1": somebody else has set ${all}, which is for all devices, to "1" since; before the agent it was "0"`,
      ),
    );
    expect(bench.host.sysctls.get(device)).toBe('1');
    const other = new Bench();
    other.host.sysctls.set(all, '1');
    await other.reach((recorded) => desiredHost(withFish, load(), recorded));
    expect(await goDown(other)).toEqual([]);
    expect(other.host.sysctls.get(device)).toBe('0');
  });

  it('puts everything back by a record that does not say what was written', async () => {
    const bench = await begun();
    bench.recorded = { ...bench.recorded, written: new Map() };
    bench.host.sysctls.set(ping, '0\t2147483647');
    expect(await goDown(bench)).toEqual([]);
    expect(bench.host.sysctls.get(ping)).toBe('1\t0');
  });
});
