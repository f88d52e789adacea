import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
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

/** From a port that nobody leased. */
const strangerConnects = () => stranger.connect(address, strangersPort++);

describe('where /proc/sys is read-only', () => {
  afterEach(async () => {
    await agent.end('SIGKILL');
  });

  it('guards and serves proxies, and says what does not work', { timeout: 60_000 }, async () => {
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
});
