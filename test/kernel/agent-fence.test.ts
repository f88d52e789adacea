import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { AgentLab, bin, eventually, fishOfEachKind, type AgentProcess } from './support/agent-lab.ts';
import { asUnit } from './support/units.ts';

const startScript = fileURLToPath(new URL('./support/agent-start-process.ts', import.meta.url));
const address = '198.51.100.10';
const fence_s = 3;
const webUid = 2_001;

let lab: AgentLab;
beforeEach(async () => {
  lab = await AgentLab.open('fence');
});
afterEach(() => lab.close());

const fish = fishOfEachKind;

/** Fish and a proxy at work on one host, and an origin that answers both. */
async function atWork() {
  // By nftables, whose counters this file looks at, whatever this kernel can.
  const settings = { client_interfaces: ['hc'], fish, steering: 'nftables' };
  const config = await lab.setUp({ fence_s, settings });
  await lab.client.machines.putHolder('edge', 'web', { kind: 'proxy', uid: webUid });
  const origin = await lab.user(lab.origin, 0);
  await origin.ask({ op: 'echo', on: '203.0.113.1', port: 80 });
  await origin.ask({ op: 'udp', from: '203.0.113.1', port: 53, to: '', toPort: 0, timeout_ms: 1 });
  const agent = lab.startAgent(config);
  await agent.until(({ lease_counts, guard }) => lease_counts['up'] === 3 && guard.open, 'fish has not its leases');
  const session = await lab.client.sessions.open({ machine: 'edge', holder: 'web', ttl_s: 600 });
  const claim = { protocol: 'tcp', mode: 'shared', ports: 128 } as const;
  const { leases } = await lab.client.leases.grant({ session: session.id, claims: [claim] });
  const block = leases[0]?.ports.first ?? NaN;
  const web = await lab.user(lab.host, webUid);
  const client = await lab.user(lab.clientSide, 0);
  return { config, agent, web, client, block };
}

const hears = (user: Awaited<ReturnType<AgentLab['user']>>, socket: string, text: string) =>
  eventually(
    async () => ((await user.ask({ op: 'heard', socket })).includes(text) ? true : undefined),
    () => `${text} was not echoed`,
  );

describe('fish and a proxy in one shared block', () => {
  it('work side by side, each reply finds its own', async () => {
    const { web, client, block, agent } = await atWork();
    const byProxy = await web.connect(address, block);
    const capture = await lab.capture(lab.origin, 'o0', `src host ${address}`);
    const byFish = await client.connect('100.64.0.2', 0);
    expect(byFish).toMatch(/^socket-/);
    for (const [user, socket, text] of [
      [web, byProxy, 'from the proxy'],
      [client, byFish, 'from the client'],
    ] as const) {
      expect(await user.ask({ op: 'say', socket, text })).toBe('said');
      await hears(user, socket, text);
    }
    const datagram = await client.udp('100.64.0.2', 0);
    expect(datagram).toMatch(/^socket-/);
    expect(lab.shell(lab.clientSide, 'ping -c 2 -i 0.2 -W 2 203.0.113.1')).toContain('2 received');

    const seen = (await capture.stop()).join('\n');
    const ports = [...seen.matchAll(/198\.51\.100\.10\.(\d+) > 203\.0\.113\.1\.80:/g)].map(([, port]) => Number(port));
    expect(new Set(ports).size).toBe(2);
    expect(ports.every((port) => port >= block && port < block + 128)).toBe(true);
    expect(seen).toMatch(/198\.51\.100\.10\.\d+ > 203\.0\.113\.1\.53/);
    expect(seen).toContain('ICMP echo request');
    // Whose packets were those? The lease table knows two holders of the block, fish's flow log knows its own flows.
    const ask = (port: number) =>
      lab.client.attribution({ address, protocol: 'tcp', port, remote_address: '203.0.113.1', remote_port: 80 });
    const [fishPort = NaN] = ports.filter((port) => port !== block);
    expect((await ask(fishPort)).holders).toEqual([
      expect.objectContaining({ holder: 'fish', basis: 'flow_log', client: '100.64.0.2' }),
    ]);
    expect((await ask(block)).holders.map(({ holder }) => holder)).toEqual(['web']);

    const { counters } = await agent.status();
    // TCP by the placeholder of its 5-tuple; the datagram by its block, which is fish's own.
    expect(counters.steer_placeholder?.packets).toBeGreaterThan(2);
    expect(counters.steer_block?.packets).toBe(1);
    expect(counters.steer_echo?.packets).toBe(2);
    expect(counters.guard_fish?.packets).toBe(0);
    expect(counters.guard_uid?.packets).toBe(0);
  });
});

describe('when the server does not answer', () => {
  it('the guard shuts by itself at the horizon, says so, and opens again with the next answer', async () => {
    const { agent, web, block } = await atWork();
    const socket = await web.connect(address, block);
    lab.freezeServer(true);
    await agent.until(({ guard }) => !guard.open, 'the guard is still open', 10_000);
    await eventually(
      () => (agent.output.includes('the guard is SHUT') ? true : undefined),
      () => agent.output.slice(-1_000),
    );
    expect(lab.shell(lab.host, 'nft list set inet fishery alive')).not.toContain('elements');
    expect(await web.connect(address, block + 1)).toBe('TIMEOUT');
    expect((await agent.get('/healthz')).code).toBe(503);
    lab.freezeServer(false);
    await agent.until(({ guard }) => guard.open, 'the guard stays shut', 10_000);
    await web.ask({ op: 'say', socket, text: 'survived' });
    await hears(web, socket, 'survived');
  });

  it('is shut while the machine sleeps, by its unit, by an agent that runs or without one', async () => {
    const config = await lab.setUp({ fence_s: 60 });
    const guard = (what: 'shut' | 'open') => {
      const command = asUnit('fishery-sleep', what === 'shut' ? 'ExecStart' : 'ExecStop', {
        '/etc/fishery/agent.yaml': config,
      });
      return lab.shell(lab.host, command.map((word) => `'${word}'`).join(' '));
    };
    const isOpen = () => lab.shell(lab.host, 'nft list set inet fishery alive').includes('elements');
    const agent = lab.startAgent(config);
    await agent.ready();
    expect([guard('shut'), isOpen()]).toEqual(['the guard is shut', false]);
    lab.shell(lab.host, 'nft delete table inet fishery');
    await agent.until(({ host }) => (host.drift.table ?? 0) > 0, 'the table is not made anew');
    expect([isOpen(), (await agent.status()).guard.open]).toEqual([false, false]);
    expect((await agent.get('/healthz')).text).toContain('fishery agent shut');
    expect(guard('open')).toBe('the guard may open again');
    await agent.until(({ guard: { open } }) => open, 'the guard stays shut');
    await agent.end('SIGKILL');
    expect(isOpen()).toBe(true);
    expect([guard('shut').replace(/.*; /, ''), isOpen()]).toEqual(['the guard is shut', false]);
    expect(guard('shut')).toContain('the guard was not open');
  });

  it('the agent keeps trying from the start, and touches nothing meanwhile', async () => {
    const config = await lab.setUp({ fence_s });
    const before = lab.fingerprint();
    lab.freezeServer(true);
    const agent = lab.startAgent(config);
    await agent.until(({ server }) => server.problem !== null, 'no status');
    expect(lab.fingerprint()).toEqual(before);
    lab.freezeServer(false);
    await agent.ready();
  });
});

describe('a second agent', () => {
  it('is refused on the same host, by the name of the first; and so is down', async () => {
    const config = await lab.setUp();
    const first = lab.startAgent(config);
    await first.ready();
    const second = lab.startAgent(config);
    expect(await second.ended()).toBe(1);
    expect(second.output).toBe(
      `fishery agent: an agent is at work on this host already (the agent of machine edge, process ${first.child.pid}): stop it first\n`,
    );
    expect(() => lab.down(config)).toThrow(/an agent is at work on this host already/);
    expect((await first.status()).guard.open).toBe(true);
  });

  it('is refused also where it has a /run of its own, unless somebody has the name who is no agent', async () => {
    const config = await lab.setUp();
    const container = { before: 'mount -t tmpfs -o mode=0755 none /run' };
    const start = () => lab.startAgent(lab.configure({ state_dir: join(lab.folder, 'state-2') }), container);
    const first = lab.startAgent(config);
    await first.ready();
    const second = start();
    expect(await second.ended()).toBe(1);
    expect(second.output).toContain(
      `an agent is at work in this network namespace already, with a /run of its own (process ${first.child.pid}: `,
    );
    expect((await first.status()).host.drift_repaired).toBe(0);
    await first.end('SIGKILL');
    const takesName =
      'import os,socket,time; os.setuid(3000); s=socket.socket(socket.AF_UNIX); s.bind("\\0fishery-agent"); s.listen(); print(1,flush=True); time.sleep(600)';
    const squatter = lab.spawn(lab.host, ['python3', '-c', takesName]);
    await new Promise((resolve) => squatter.stdout?.once('data', resolve));
    const third = lab.startAgent(lab.configure());
    await third.ready();
    expect(third.output).toContain('user 3000 (process');
  });
});

describe('an agent that cannot work', () => {
  const complaintOf = async (agent: AgentProcess): Promise<string> => {
    expect(await agent.ended()).toBe(1);
    return agent.output
      .split('\n')
      .filter((line) => line.startsWith('fishery agent: '))
      .join('\n');
  };

  it('says that its token is wrong, or not its own, or that its machine is unknown', async () => {
    const config = await lab.setUp();
    const before = lab.fingerprint();
    writeFileSync(join(lab.folder, 'token'), 'fishery_wrong');
    expect(await complaintOf(lab.startAgent(config))).toContain('the server does not know the token in');

    await lab.client.machines.create({ id: 'other' });
    const { secret } = await lab.client.tokens.create({ name: 'other-agent', role: 'agent', machine: 'other' });
    writeFileSync(join(lab.folder, 'token'), secret);
    expect(await complaintOf(lab.startAgent(config))).toContain('is not that of an agent of machine "edge"');

    const operator = await lab.client.tokens.create({ name: 'op', role: 'operator' });
    writeFileSync(join(lab.folder, 'token'), operator.secret);
    const unknown = lab.configure({ machine: 'nowhere' });
    expect(await complaintOf(lab.startAgent(unknown))).toContain('the server has no machine "nowhere"');
    expect(lab.fingerprint()).toEqual(before);
  });

  it('leaves nothing open and no lock, also when its start fails half-way', async () => {
    const config = await lab.setUp({ settings: { client_interfaces: ['hc'], fish } });
    mkdirSync(join(lab.folder, 'state', 'agent.sock', 'in-the-way'), { recursive: true });
    const before = lab.fingerprint();
    const done = JSON.parse(lab.shell(lab.host, `${process.execPath} ${startScript} ${config}`)) as Readonly<{
      open: number;
      attempts: readonly Readonly<{ outcome: string; locks: readonly string[]; descriptors: number }>[];
    }>;
    const refused = expect.stringContaining('cannot be used') as string;
    expect(done.attempts).toEqual(
      [refused, 'Error: the log cannot be written', refused].map((outcome) => ({
        ...{ outcome, locks: [], descriptors: done.open },
      })),
    );
    expect(lab.fingerprint()).toEqual(before);
  });

  it('says that it needs root', async () => {
    const config = await lab.setUp();
    // Whoever may read all this, and is not root.
    for (const path of [lab.folder, config, join(lab.folder, 'token')]) chmodSync(path, 0o755);
    const args = ['setpriv', '--reuid=2001', '--clear-groups', process.execPath, bin, 'agent', '--config', config];
    const child = lab.spawn(lab.host, args);
    let text = '';
    child.stderr?.on('data', (chunk: Buffer) => (text += chunk.toString()));
    expect(await new Promise((resolve) => child.once('close', resolve))).toBe(1);
    expect(text).toBe('fishery agent: the agent needs root (CAP_NET_ADMIN and CAP_NET_RAW): run it as root\n');
  });

  it.each([
    ['nft', 'mount -t tmpfs none /usr/sbin', 'fishery agent: nft is not on this host: install nftables\n'],
    [
      '/dev/net/tun',
      'mount -t tmpfs none /dev/net',
      'fishery agent: /dev/net/tun is missing: load the module tun, or pass the device into the container\n',
    ],
  ])('says that %s is missing', async (_what, hide, complaint) => {
    const config = await lab.setUp({ settings: { client_interfaces: ['hc'], fish } });
    const start = `${hide} && exec ${process.execPath} ${bin} agent --config ${config}`;
    const child = lab.spawn(lab.host, ['unshare', '--mount', 'sh', '-c', start]);
    let text = '';
    child.stderr?.on('data', (chunk: Buffer) => (text += chunk.toString()));
    expect(await new Promise((resolve) => child.once('close', resolve))).toBe(1);
    expect(text).toBe(complaint);
  });

  it('says which settings a host carries when they were changed under it', async () => {
    const config = await lab.setUp({ settings: { client_interfaces: ['hc'], fish } });
    const agent = lab.startAgent(config);
    await agent.ready();
    await agent.end();
    const other = lab.configure({ client_interfaces: ['hc'], fish, tun: 'fishtun2' });
    expect(await complaintOf(lab.startAgent(other))).toContain(
      'this host is set up for tun "fishtun", the settings say "fishtun2"',
    );
    // Down knows how the host was set up, whatever the settings say by now.
    lab.down(other);
    expect(lab.shell(lab.host, 'ip -o link show')).not.toContain('fishtun');
  });
});
