import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LinuxHostProcess } from './support/agent-host-process.ts';
import { AgentLab, eventually } from './support/agent-lab.ts';
import { rulesetOf } from '../../src/agent/ruleset.ts';
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
