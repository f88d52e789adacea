import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LinuxHostProcess } from './support/agent-host-process.ts';
import { AgentLab, eventually } from './support/agent-lab.ts';
import { rulesetOf } from '../../src/agent/host/ruleset.ts';
import { everyRuleset } from '../support/rulesets.ts';

describe('the kernel', () => {
  let lab: AgentLab;
  beforeAll(async () => {
    lab = await AgentLab.open('rules');
  });
  afterAll(() => lab.close());

  it.each(Object.entries(everyRuleset))('takes the table for %s', (_name, input) => {
    lab.shell(lab.host, 'nft -c -f -', rulesetOf(input).text);
    expect(lab.shell(lab.host, 'nft list ruleset')).toBe('');
  });

  it('goes from any of them to any other in one transaction, keeping elements, and deleting what is stale', async () => {
    const host = await LinuxHostProcess.start(lab);
    const set = 'own_tcp4_128';
    const element = { set, key: '198.51.100.10 . 9088' };
    await host.call('carryOut', [{ do: 'load-ruleset', ruleset: rulesetOf(everyRuleset.proxies) }]);
    await host.call('changeElements', [element], []);
    for (const name of ['fish', 'proxies', 'cgroups', 'fish', 'cgroups', 'proxies'] as const) {
      await host.call('carryOut', [{ do: 'load-ruleset', ruleset: rulesetOf(everyRuleset[name]) }]);
      const { ruleset, elements } = await host.call('observe', 'all');
      expect(ruleset).toMatchObject({ is: 'loaded' });
      expect([...elements.keys()].sort()).toEqual([...rulesetOf(everyRuleset[name]).sets].sort());
      expect([...(elements.get(set) ?? [])]).toEqual([element.key]);
    }
    await host.call('carryOut', [{ do: 'load-ruleset', ruleset: rulesetOf(everyRuleset.bare) }]);
    expect((await host.call('observe', 'all')).elements.size).toBe(0);
    await host.call('carryOut', [{ do: 'remove-table' }, { do: 'remove-table' }]);
    expect((await host.call('observe', 'all')).ruleset).toEqual({ is: 'absent' });
    await host.stop();
  });

  it('changes the elements of several sets at once, or none of them', async () => {
    const host = await LinuxHostProcess.start(lab);
    const sets = ['own_uid_tcp4_128', 'own_tcp4_128'];
    const keys: Readonly<Record<string, string>> = {
      own_uid_tcp4_128: '198.51.100.10 . 9088 . 1000',
      own_tcp4_128: '198.51.100.10 . 9088',
    };
    const adding = sets.map((set) => ({ do: 'add-elements', set, keys: [keys[set]] }));
    const inKernel = async () => {
      const { elements } = await host.call('observe', 'all');
      return sets.map((set) => [...(elements.get(set) ?? [])]);
    };
    await host.call('carryOut', [{ do: 'load-ruleset', ruleset: rulesetOf(everyRuleset.proxies) }]);
    // The last one's set is not there: what stands before it must not come either.
    const missing = { do: 'add-elements', set: 'own_tcp4_64', keys: ['198.51.100.10 . 9088'] };
    await expect(host.call('carryOut', [...adding, missing] as never)).rejects.toThrow('ENOENT');
    expect(await inKernel()).toEqual([[], []]);
    await host.call('carryOut', adding as never);
    expect(await inKernel()).toEqual(sets.map((set) => [keys[set]]));
    await host.call('carryOut', [{ do: 'remove-table' }]);
    await host.stop();
  });

  describe('with the table loaded', () => {
    const pool6 = '2001:db8:a::10';
    const port = 9_089;
    const script = (name: string) => `python3 ${fileURLToPath(new URL(`support/${name}.py`, import.meta.url))}`;
    const packets = (counter: string): number =>
      Number(/packets (\d+)/.exec(lab.shell(lab.host, `nft list counter inet fishery ${counter}`))?.[1]);
    let host: LinuxHostProcess;
    beforeAll(async () => {
      host = await LinuxHostProcess.start(lab);
      const ruleset = rulesetOf({ ...everyRuleset.fish, arrivals: ['h0'], clients: [], hostAddresses: [] });
      await host.call('carryOut', [{ do: 'load-ruleset', ruleset }]);
      await host.call('changeElements', [{ set: 'steer_udp6_128', key: `${pool6} . 9088` }], []);
      lab.shell(lab.host, `ip addr add ${pool6}/128 dev lo`);
    });
    afterAll(async () => {
      lab.shell(lab.host, `ip addr del ${pool6}/128 dev lo`);
      await host.call('carryOut', [{ do: 'remove-table' }]);
      await host.stop();
    });

    it('knows an error about a packet with extension headers by the port behind them', async () => {
      const send = (...chains: readonly string[]) =>
        lab.shell(lab.origin, `${script('send-errors6')} ${pool6} ${port} 2001:db8:f::1 ${chains.join(' ')}`);
      const known = ['-', 'f', 'h1', 'd1', 'h1f', 'd1f', 'h2', 'd3', 'h1d1', 'd1d1'];
      for (const [index, chain] of known.entries()) {
        send(chain);
        await eventually(
          () => (packets('steer_error') === index + 1 ? true : undefined),
          () => chain,
        );
      }
      // Without a port, or further behind than is looked: for the host's own sockets, as everything that is nobody's.
      send('l', 'h1l', 'd4');
      send('-');
      await eventually(
        () => (packets('steer_error') === known.length + 1 ? true : undefined),
        () => 'the last one',
      );
    });

    it('lets neighbours hear of a pool address of this host while the guard is open, and of nothing else', async () => {
      const [solicitation, advertisement, routerAdvertisement, redirect, report] = [135, 136, 134, 137, 143];
      const capture = await lab.capture(lab.origin, 'o0', `icmp6 and src host ${pool6}`);
      const speak = (...messages: readonly (readonly [type: number, hops: number])[]) =>
        lab.shell(
          lab.host,
          `${script('send-neighbours6')} ${pool6} ${pool6} h0 ${messages.map((each) => each.join(',')).join(' ')}`,
        );
      const all = [solicitation, advertisement, routerAdvertisement, redirect, report];
      // Shut: the address may be another machine's by now, and neighbours must not be told otherwise.
      speak(...all.map((type) => [type, 255] as const));
      expect(packets('guard_dead')).toBe(all.length);
      await host.call('openGuard', 60_000);
      speak(...all.map((type) => [type, 255] as const), [solicitation, 64], [advertisement, 1]);
      expect(packets('guard_uid')).toBe(all.length);
      await eventually(
        () => (capture.lines() >= 2 ? true : undefined),
        () => 'nothing was heard',
      );
      const heard = await capture.stop();
      expect(heard).toHaveLength(2);
      expect(heard[0]).toContain('neighbor solicitation');
      expect(heard[1]).toContain('neighbor advertisement');
      await host.call('shutGuard');
    });

    it('does not need any of that to find its next hop', async () => {
      // The pool's address is on lo, so the link-local one asks.
      lab.shell(lab.host, 'ip -6 neigh flush dev h0');
      const capture = await lab.capture(lab.origin, 'o0', 'icmp6 and ip6[40] == 135');
      expect(() => lab.shell(lab.host, 'ping -c 1 -W 1 -I 2001:db8:a::10 2001:db8:f::1')).toThrow();
      lab.shell(lab.host, 'ping -c 1 -W 5 2001:db8:f::1');
      for (const line of await capture.stop()) expect(line).not.toContain(`${pool6} >`);
    });
  });

  it('sees source NAT of others, whatever its family, and not its own', async () => {
    const host = await LinuxHostProcess.start(lab);
    const isSeen = async () => (await host.call('observe', 'all')).othersTranslate;
    await host.call('carryOut', [{ do: 'load-ruleset', ruleset: rulesetOf(everyRuleset.fish) }]);
    expect(await isSeen()).toBe(false);
    for (const family of ['ip', 'ip6', 'inet']) {
      lab.shell(lab.host, 'nft -f -', `table ${family} t { chain c { type nat hook prerouting priority 0; }\n }\n`);
      expect(await isSeen(), family).toBe(false);
      lab.shell(lab.host, 'nft -f -', `table ${family} t { chain d { type nat hook postrouting priority 0; }\n }\n`);
      expect(await isSeen(), family).toBe(true);
      lab.shell(lab.host, `nft delete table ${family} t`);
    }
    expect(await isSeen()).toBe(false);
    await host.call('carryOut', [{ do: 'remove-table' }]);
    await host.stop();
  });

  it('says of each step that fails which one it was', async () => {
    const host = await LinuxHostProcess.start(lab);
    const fails = (steps: object[]) =>
      host.call('carryOut', steps as never).then(
        () => 'fine',
        (error: unknown) => String(error),
      );
    expect(
      await fails([
        { do: 'add-rule', rule: '-4 priority 10 lookup main' },
        { do: 'add-route', route: '-4 default dev nowhere metric 1 table 100' },
      ]),
    ).toContain('ip -4 route add default dev nowhere metric 1 table 100: there is no network device nowhere');
    expect(await fails([{ do: 'remove-rule', rule: '-4 priority 10 lookup main' }])).toBe('fine');
    expect(await fails([{ do: 'set-sysctl', key: 'net/ipv4/conf/nowhere/forwarding', value: '1' }])).toContain(
      'sysctl net/ipv4/conf/nowhere/forwarding',
    );
    expect(await fails([{ do: 'add-elements', set: 'own_tcp4_128', keys: ['198.51.100.10 . 0'] }])).toContain('ENOENT');
    expect(await fails([{ do: 'load-ruleset', ruleset: { text: 'nonsense\n', sets: [] } }])).toContain('syntax error');
    await host.stop();
  });
});

describe('packets', () => {
  let lab: AgentLab;
  beforeAll(async () => {
    lab = await AgentLab.open('packets');
  });
  afterAll(() => lab.close());

  it('with a pool address that others forward are dropped and counted', async () => {
    const agent = lab.startAgent(await lab.setUp());
    await agent.ready();
    lab.shell(lab.host, 'sysctl -qw net.ipv4.ip_forward=1');
    lab.shell(lab.clientSide, 'ip addr add 198.51.100.77/32 dev lo');
    const capture = await lab.capture(lab.origin, 'o0', 'src host 198.51.100.77');
    expect(() => lab.shell(lab.clientSide, 'ping -c 2 -i 0.2 -W 1 -I 198.51.100.77 203.0.113.1')).toThrow();
    expect((await agent.status()).counters.guard_forwarded?.packets).toBe(2);
    expect(await capture.stop()).toEqual([]);
    await agent.end();
  });

  it('that report an error about an exclusive block of fish go to fish', async () => {
    const fish = {
      client_prefixes: ['100.64.0.0/10'],
      claims: [{ protocol: 'tcp', ports: 16 }],
    };
    const agent = lab.startAgent(lab.configure({ client_interfaces: ['hc'], fish }));
    await agent.until(({ lease_counts, guard }) => lease_counts['up'] === 1 && guard.open, 'fish has no lease');
    lab.shell(
      lab.origin,
      'nft -f -',
      `table ip t {
        chain c {
          type filter hook input priority 0;
          tcp dport 81 reject with icmp admin-prohibited
        }
      }\n`,
    );
    const client = await lab.user(lab.clientSide, 0);
    expect(await client.connect('100.64.0.2', 0, '203.0.113.1', 81, 500)).not.toMatch(/^socket-/);
    const { counters } = await eventually(
      async () => {
        const status = await agent.status();
        return (status.counters.steer_error?.packets ?? 0) > 0 ? status : undefined;
      },
      () => agent.output.slice(-2_000),
    );
    expect(counters.guard_fish?.packets).toBe(0);
    // Nothing of it came to the host's own stack.
    expect(counters.orphan?.packets).toBe(0);
    await agent.end();
  });
});
