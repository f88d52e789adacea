import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { DriftKind } from '../../src/agent/host/host-state.ts';
import { AgentLab, eventually, fishOfEachKind, type AgentProcess } from './support/agent-lab.ts';

const webUid = 2_001;

let lab: AgentLab;
let agent: AgentProcess;
let block: number;
let wanted: ReturnType<typeof stable>;

/** Fish and a proxy at work on one host. */
beforeAll(async () => {
  lab = await AgentLab.open('drift');
  const config = await lab.setUp({
    settings: { client_interfaces: ['hc'], steering: 'nftables', fish: fishOfEachKind },
  });
  await lab.client.machines.putHolder('edge', 'web', { kind: 'proxy', uid: webUid });
  const origin = await lab.user(lab.origin, 0);
  await origin.ask({ op: 'echo', on: '203.0.113.1', port: 80 });
  agent = lab.startAgent(config);
  await agent.until(({ lease_counts, guard }) => lease_counts['up'] === 3 && guard.open, 'fish has not its leases');
  const session = await lab.client.sessions.open({ machine: 'edge', holder: 'web', ttl_s: 600 });
  const claim = { protocol: 'tcp', mode: 'shared', ports: 128 } as const;
  const { leases } = await lab.client.leases.grant({ session: session.id, claims: [claim] });
  block = leases[0]?.ports.first ?? NaN;
  wanted = stable();
});
afterAll(() => lab.close());

/** The host as far as it should stay the same: without counts, without the guard's time, in an order of its own. */
function stable() {
  const { links: _links, ...rest } = lab.fingerprint();
  const nft = (rest.nft ?? '').replace(/packets \d+ bytes \d+/g, '').replace(/timeout .*expires .*/g, '');
  // The kernel lists sets in the order in which they were made, which is not the order of rules.
  return {
    ...rest,
    nft: nft
      .split('\n\n')
      .map((part) => part.trim())
      .sort(),
  };
}

describe('what others do to the host', () => {
  it.each<[kind: DriftKind, command: string]>([
    ['table', 'nft delete table inet fishery'],
    ['table', 'nft flush ruleset'],
    ['table', "(echo 'delete table inet fishery'; nft -s -t list table inet fishery) | nft -f -"],
    ['table', 'nft flush table inet fishery'],
    ['table', 'nft flush chain inet fishery guard'],
    ['table', 'nft insert rule inet fishery guard accept'],
    ['table', "nft add table inet fishery '{ flags dormant; }'"],
    ['table', "nft add chain inet fishery extra '{ type filter hook input priority 0; policy accept; }'"],
    ['table', "nft add set inet fishery extra '{ type ipv4_addr; }'"],
    // As of a ruleset that somebody saved, or of another version.
    [
      'table',
      "nft 'delete table inet fishery; table inet fishery { chain guard { type filter hook postrouting priority -300; policy accept; }; }'",
    ],
    ['table', "nft 'delete table inet fishery; table inet fishery { set alive { type ipv4_addr; flags timeout; }; }'"],
    [
      'table',
      "nft 'delete table inet fishery; table inet fishery { set own_uid_tcp4_128 { type ipv4_addr . inet_service . mark; elements = { 198.51.100.10 . 77 . 5 }; }; }'",
    ],
    ['table', "nft delete element inet fishery pool4 '{ 198.51.100.0/24 }'"],
    ['element', 'nft flush set inet fishery own_uid_tcp4_128'],
    ['element', "nft add element inet fishery own_uid_tcp4_128 '{ 198.51.100.10 . 60416 . 77 }'"],
    ['guard', "nft delete element inet fishery alive '{ 0 }'"],
    ['guard', "nft delete element inet fishery alive '{ 0 }'; nft add element inet fishery alive '{ 0 }'"],
    ['rule', 'ip rule del priority 11'],
    ['rule', 'ip -6 rule del priority 10'],
    ['rule', 'ip rule add priority 0 lookup local'],
    ['route', 'ip route del default dev fishtun table 100'],
    ['route', 'ip -6 route flush table 100'],
    ['address', 'ip addr del 198.51.100.10/32 dev lo'],
    ['link', 'ip link set fishtun down'],
    ['sysctl', 'sysctl -qw net.ipv4.tcp_early_demux=1'],
    ['sysctl', 'sysctl -qw net.ipv4.conf.fishtun.accept_local=0'],
  ])('is noticed, undone and counted as %s: %s', async (kind, command) => {
    const before = (await agent.status()).host.drift[kind] ?? 0;
    lab.shell(lab.host, command);
    const isNoticed = (within_ms?: number) =>
      agent.until(({ host }) => (host.drift[kind] ?? 0) > before, `${command}: not noticed`, within_ms);
    // A keepalive that is answered just then puts the guard right before anybody looks.
    if (kind === 'guard') await isNoticed(2_000).catch(() => lab.shell(lab.host, command));
    await isNoticed();
    await eventually(
      () => (JSON.stringify(stable()) === JSON.stringify(wanted) ? true : undefined),
      () => {
        expect(stable(), command).toEqual(wanted);
        return command;
      },
    );
  });

  it("is noticed where sockets of fish's flows are destroyed: they are opened again, or the flow ends if somebody has its tuple", async () => {
    const client = await lab.user(lab.clientSide, 0);
    const held = () => /198.51.100.10:(\d+) +203.0.113.1:80/.exec(lab.shell(lab.host, 'ss -Htn state syn-sent'))?.[1];
    const destroyed = async () => (await agent.status()).host.drift.socket ?? 0;
    const socket = await client.connect('100.64.0.2', 21_001);
    const port = held();
    expect(port).toBeDefined();
    lab.shell(lab.host, 'ss -K -tn src 198.51.100.10');
    await agent.until(({ host }) => host.drift.socket === 1, 'nobody noticed');
    await eventually(
      () => held() === port || undefined,
      () => `held: ${held()}`,
    );
    await client.ask({ op: 'say', socket, text: 'goes on' });
    await eventually(
      async () => (await client.ask({ op: 'heard', socket })) === 'goes on' || undefined,
      () => agent.output.slice(-2_000),
    );
    agent.child.kill('SIGSTOP');
    lab.shell(lab.host, 'ss -K -tn src 198.51.100.10');
    const take = `import socket, time
s = socket.socket(); s.bind(('198.51.100.10', ${port})); s.setblocking(False); s.connect_ex(('203.0.113.1', 80)); print('has it', flush=True); time.sleep(600)`;
    const other = lab.spawn(lab.host, ['python3', '-c', take]);
    await new Promise((resolve) => other.stdout?.once('data', resolve));
    agent.child.kill('SIGCONT');
    await agent.until(({ fish }) => fish?.stats['adoption_without_placeholder'] === 1, 'the flow did not end');
    expect(await destroyed()).toBe(2);
    other.kill('SIGKILL');
    await client.kill();
    await agent.until(({ guard }) => guard.open, 'the guard is shut');
  });

  it('is found by a look at everything when more happened than could be heard', async () => {
    const before = (await agent.status()).host.drift['rule'] ?? 0;
    const pair = String.raw`rule add priority 6000 lookup main\nrule del priority 6000 lookup main`;
    agent.child.kill('SIGSTOP');
    try {
      lab.shell(lab.host, `seq 15000 | sed 's/.*/${pair}/' | ip -batch -; ip route flush table 100`);
    } finally {
      agent.child.kill('SIGCONT');
    }
    await eventually(
      () => (JSON.stringify(stable()) === JSON.stringify(wanted) ? true : undefined),
      () => {
        expect(stable()).toEqual(wanted);
        return 'the route is not back';
      },
    );
    expect((await agent.status()).host.drift['rule'] ?? 0).toBe(before);
  });

  it('is told in the metrics by kind, and the host works as before', async () => {
    const { text } = await agent.get('/metrics');
    expect(text).toMatch(/fishery_agent_drift_repaired_total\{kind="table"\} [1-9]/);
    expect(agent.output).toContain('somebody changed the host');
    expect((await agent.status()).guard.open).toBe(true);
    const web = await lab.user(lab.host, webUid);
    expect(await web.connect('198.51.100.10', block + 2)).toMatch(/^socket-/);
  });

  it('is let alone where it is not about the agent: nothing is undone, nothing counted', async () => {
    const { drift_repaired: before } = (await agent.status()).host;
    lab.shell(
      lab.host,
      'nft add table ip other; nft add chain ip other c; ip rule add priority 5210 fwmark 0x80000/0xff0000 lookup main; ' +
        'ip route add 203.0.113.128/25 dev h0 table 52; ip addr add 192.0.2.9/32 dev h0',
    );
    await agent.until(({ host }) => host.problem === null, 'a problem');
    expect((await agent.status()).host.drift_repaired).toBe(before);
    expect(lab.shell(lab.host, 'nft list tables')).toContain('table ip other');
    expect(lab.shell(lab.host, 'ip rule')).toContain('5210:');
  });
});
