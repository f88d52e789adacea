import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { asUnit } from './support/units.ts';
import { AgentLab, fishOfEachKind, type AgentProcess, type User } from './support/agent-lab.ts';

/** Of a slice of this machine, and on `lo` by the host's own configuration, as fleets do it with whole pools. */
const address = '198.51.100.10';
const webUid = 2_001;
const strangerUid = 2_009;
const withFish = { client_interfaces: ['hc'], fish: { ...fishOfEachKind, session_ttl_s: 5 } };
/** As in a container that is not privileged. */
const readOnlySysctls = 'mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys';

let lab: AgentLab;
let agent: AgentProcess;
let web: User;
let stranger: User;
let strangersPort = 9_000;

beforeAll(async () => {
  lab = await AgentLab.open('first');
  lab.shell(lab.host, `ip addr add ${address}/32 dev lo`);
  await lab.setUp();
  await lab.client.machines.putHolder('edge', 'web', { kind: 'proxy', uid: webUid });
  const origin = await lab.user(lab.origin, 0);
  await origin.ask({ op: 'echo', on: '203.0.113.1', port: 80 });
  [web, stranger] = await Promise.all([lab.user(lab.host, webUid), lab.user(lab.host, strangerUid)]);
}, 60_000);
afterAll(() => lab.close());

/** Everything that the kernel had is gone, and the agent's folder is of another boot. */
function boot(): void {
  lab.shell(lab.host, 'nft delete table inet fishery');
  const id = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  const folder = join(lab.folder, 'state');
  for (const each of readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isFile())) {
    const path = join(folder, each.name);
    writeFileSync(path, readFileSync(path, 'utf8').replaceAll(id, '11111111-2222-4333-8444-555555555555'));
  }
}

/** From a port that nobody leased; what leaves is answered within a millisecond. */
const strangerConnects = () => stranger.connect(address, strangersPort++, '203.0.113.1', 80, 300);

describe('after a boot, with the server out of reach', () => {
  afterEach(async () => {
    lab.freezeServer(false);
    await agent.end('SIGKILL');
  });

  it('the guard stands by what was said before, shut, and is mended', { timeout: 60_000 }, async () => {
    const config = lab.configure();
    agent = lab.startAgent(config);
    await agent.ready();
    expect(await strangerConnects()).toBe('TIMEOUT');
    lab.freezeServer(true);
    await agent.end('SIGKILL');
    boot();
    agent = lab.startAgent(config);
    const isShut = () => agent.until(({ guard }) => guard.stands && !guard.open, 'there is no guard');
    await isShut();
    expect(await strangerConnects()).toBe('TIMEOUT');
    expect((await agent.get('/healthz')).text).toContain('the guard is shut');
    lab.shell(lab.host, 'nft flush ruleset');
    await isShut();
    expect(await strangerConnects()).toBe('TIMEOUT');
    lab.freezeServer(false);
    await agent.ready();
    expect(await strangerConnects()).toBe('TIMEOUT');
  });

  it('says that there is no guard where nothing was ever said', { timeout: 60_000 }, async () => {
    lab.freezeServer(true);
    lab.shell(lab.host, 'nft flush ruleset');
    rmSync(join(lab.folder, 'state'), { recursive: true });
    agent = lab.startAgent(lab.configure());
    const { guard } = await agent.until(() => true, 'it does not answer');
    expect(guard).toMatchObject({ stands: false, open: false });
    const { code, text } = await agent.get('/healthz');
    expect([code, text]).toEqual([503, expect.stringContaining('there is no guard')]);
    expect((await agent.get('/metrics')).text).toMatch(/^fishery_agent_guard_stands 0$/m);
    lab.freezeServer(false);
    await agent.ready();
    expect(await strangerConnects()).toBe('TIMEOUT');
  });
});

describe('where the ruleset is flushed while no agent is at work', () => {
  const table = () => lab.shell(lab.host, 'nft list tables');
  const flush = () => lab.shell(lab.host, 'nft flush ruleset');
  const asGuardUnit = async (): Promise<string> => {
    const child = lab.spawn(lab.host, asUnit('fishery-guard', 'ExecStart', { '/etc/fishery/agent.yaml': config }));
    let text = '';
    for (const stream of [child.stdout, child.stderr])
      stream?.on('data', (chunk: Buffer) => (text += chunk.toString()));
    await new Promise((resolve) => child.once('close', resolve));
    return text;
  };
  let config: string;

  beforeAll(async () => {
    config = lab.configure();
    agent = lab.startAgent(config);
    await agent.ready();
  });

  it('an agent that is started loads the guard before it asks anybody', { timeout: 60_000 }, async () => {
    await agent.end('SIGKILL');
    flush();
    lab.freezeServer(true);
    agent = lab.startAgent(config);
    await agent.until(({ guard }) => guard.stands && !guard.open, 'there is no guard');
    expect(await strangerConnects()).toBe('TIMEOUT');
    lab.freezeServer(false);
    await agent.ready();
    expect(await strangerConnects()).toBe('TIMEOUT');
  });

  it('its unit loads the guard, shut, behind the firewall', { timeout: 60_000 }, async () => {
    expect(await asGuardUnit()).toContain('the guard stands\n');
    await agent.end('SIGKILL');
    flush();
    expect(await strangerConnects()).toMatch(/^socket-/);
    expect(await asGuardUnit()).toContain('there was no guard: it stands now, shut');
    expect(table()).toBe('table inet fishery');
    expect(await strangerConnects()).toBe('TIMEOUT');
    agent = lab.startAgent(config);
    await agent.ready();
  });

  it('its unit does not wait for an agent that is stuck', { timeout: 60_000 }, async () => {
    agent.child.kill('SIGSTOP');
    flush();
    expect(await asGuardUnit()).toContain('it stands now, shut');
    expect(await strangerConnects()).toBe('TIMEOUT');
    agent.child.kill('SIGCONT');
    await agent.ready();
    await agent.end('SIGKILL');
  });

  it('its unit does nothing where nothing was ever said', async () => {
    flush();
    rmSync(join(lab.folder, 'state'), { recursive: true });
    expect(await asGuardUnit()).toContain('there is nothing to guard');
    expect(table()).toBe('');
  });
});

describe('where /proc/sys is read-only', () => {
  afterEach(async () => {
    await agent.end('SIGKILL');
  });

  it('guards and serves proxies, and says what does not work', { timeout: 60_000 }, async () => {
    lab.shell(lab.host, 'sysctl -qw net.ipv4.ip_local_port_range="32768 60999"');
    agent = lab.startAgent(lab.configure(), { before: readOnlySysctls });
    await agent.until(({ guard }) => guard.open, 'the guard does not open');
    expect(await strangerConnects()).toBe('TIMEOUT');
    const session = await lab.client.sessions.open({ machine: 'edge', holder: 'web', ttl_s: 60 });
    const { leases } = await lab.client.leases.grant({
      session: session.id,
      claims: [{ protocol: 'tcp', ports: 16 }],
    });
    const [lease] = leases;
    expect(lease?.state).toBe('active');
    expect(await web.connect(address, lease?.ports.first ?? 0)).toMatch(/^socket-/);
    const { code, text } = await agent.get('/healthz');
    expect([code, text]).toEqual([503, expect.stringMatching(/sysctls cannot be set \(EROFS\): .*port_range/)]);
    const metrics = await agent.get('/metrics');
    expect(metrics.text).toMatch(/^fishery_agent_host_problem 1$/m);
    await lab.client.sessions.end(session.id);
  });

  it('says that fish cannot work, and why', { timeout: 60_000 }, async () => {
    agent = lab.startAgent(lab.configure(withFish), { before: readOnlySysctls });
    const { host, fish } = await agent.until(
      ({ guard, host: its }) => guard.open && its.problem?.includes('fish cannot work here') === true,
      'it says nothing, or the guard does not open',
    );
    expect([host.problem, fish?.running]).toEqual([expect.stringContaining('net.ipv4.conf.fishtun'), false]);
    expect(await strangerConnects()).toBe('TIMEOUT');
  });

  it('and is well again as soon as the settings have no fish', { timeout: 60_000 }, async () => {
    agent = lab.startAgent(lab.configure());
    await agent.ready();
  });
});
