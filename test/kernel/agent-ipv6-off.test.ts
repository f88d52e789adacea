import { afterAll, beforeAll, expect, it } from 'vitest';
import { AgentLab, eventually, fishOfEachKind, type AgentProcess } from './support/agent-lab.ts';

/** All clients, slices and claims are IPv4; the host speaks both families, until somebody switches one off. */
const settings = { client_interfaces: ['hc'], fish: { ...fishOfEachKind, session_ttl_s: 5 } };

let lab: AgentLab;
let agent: AgentProcess;
let config: string;
let rulesBefore: string;

beforeAll(async () => {
  lab = await AgentLab.open('sixoff');
  config = await lab.setUp({ settings });
  await lab.client.machines.putHolder('edge', 'web', { kind: 'proxy', uid: 2_001 });
  rulesBefore = rules();
}, 60_000);
afterAll(() => lab.close());

const rules = () => lab.shell(lab.host, 'ip -6 rule');
const switchIpv6 = (isOff: 0 | 1, ...names: readonly string[]) =>
  lab.shell(lab.host, `sysctl -qw ${names.map((name) => `net.ipv6.conf.${name}.disable_ipv6=${isOff}`).join(' ')}`);
const isUp = () =>
  agent.until(({ lease_counts: of, guard, host }) => of['up'] === 3 && guard.open && host.problem === null, 'not up');

it('IPv6 is off for new devices alone: fish works for IPv4', { timeout: 60_000 }, async () => {
  switchIpv6(1, 'default');
  agent = lab.startAgent(config);
  await isUp();
  expect(rules()).toBe(rulesBefore);
  await agent.end('SIGKILL');
  lab.down(config);
  switchIpv6(0, 'default');
});

it('IPv6 is switched off at work: IPv4 goes on, and IPv6 has its rules again until it is on', async () => {
  agent = lab.startAgent(config);
  await isUp();
  expect(rules()).toContain('lookup 100 proto 70');
  switchIpv6(1, 'all', 'default');
  await eventually(
    () => (rules() === rulesBefore ? true : undefined),
    () => `${rules()}\n${agent.output.slice(-3_000)}`,
  );
  const session = await lab.client.sessions.open({ machine: 'edge', holder: 'web', ttl_s: 600 });
  const claims = [{ protocol: 'tcp', ports: 16 } as const];
  const { leases } = await lab.client.leases.grant({ session: session.id, claims }, { timeoutS: 30 });
  expect(leases.map(({ state }) => state)).toEqual(['active']);
  const { host } = await agent.status();
  expect(host).toMatchObject({ problem: null, drift: {} });
  switchIpv6(0, 'all', 'default');
  await eventually(
    () => (/lookup 100 proto 70[^]*iif hc/.test(rules()) ? true : undefined),
    () => `${rules()}\n${agent.output.slice(-3_000)}`,
  );
}, 90_000);

it('IPv6 is switched off before the agent is taken down: none of its rules stay', { timeout: 60_000 }, async () => {
  await agent.end('SIGKILL');
  switchIpv6(1, 'all', 'default');
  lab.down(config);
  expect(rules()).toBe(rulesBefore);
  switchIpv6(0, 'all', 'default');
  expect([rules(), lab.shell(lab.host, 'ip -6 route show table 100')]).toEqual([rulesBefore, '']);
  expect(lab.down(config)).toContain('nothing of the agent is on this host');
});
