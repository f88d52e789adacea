import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { cgroupMount } from '../../src/agent/linux/cgroups.ts';
import type { Lease } from '../../src/wire/leases.ts';
import { AgentLab, eventually, type AgentProcess, type User } from './support/agent-lab.ts';

const address = '198.51.100.10';
const address6 = '2001:db8:a::10';
const userUid = 2_002;
/** Takes what it is sent, and says nothing: an answer to a socket that has closed would be answered by a reset. */
const silentPort = 81;
/** A slice as service managers have them, and services in it. */
const parent = `fishery-test-${inject('namespaceRun')}.slice`;
const path = `${parent}/web.service`;

const mount = cgroupMount(readFileSync('/proc/self/mounts', 'utf8')) ?? '';
const folderOf = (cgroup: string): string => join(mount, cgroup);
const makeCgroup = (cgroup: string): string => {
  mkdirSync(folderOf(cgroup), { recursive: true });
  return folderOf(cgroup);
};
/** A folder of cgroups is removed from its leaves up, once no process is in them. */
async function removeCgroup(cgroup: string): Promise<void> {
  const remove = (folder: string): void => {
    for (const entry of readdirSync(folder, { withFileTypes: true }))
      if (entry.isDirectory()) remove(join(folder, entry.name));
    rmdirSync(folder);
  };
  await eventually(
    () => {
      try {
        remove(folderOf(cgroup));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      }
      return true;
    },
    () => `${cgroup} cannot be removed`,
  );
}

let lab: AgentLab;
let agent: AgentProcess;
let config: string;
let origin: User;

beforeAll(async () => {
  expect(mount, 'this test needs a cgroup2 mount').not.toBe('');
  for (const left of readdirSync(mount)) {
    const run = /^fishery-test-(\d+)\.slice$/.exec(left)?.[1];
    if (run !== undefined && !existsSync(`/proc/${run}`)) await removeCgroup(left);
  }
  lab = await AgentLab.open('cgroup');
  config = await lab.setUp({
    slices: [
      [address, 8_192],
      [address6, 8_192],
    ],
  });
  await lab.client.machines.putHolder('edge', 'web', { kind: 'proxy', cgroup: path });
  await lab.client.machines.putHolder('edge', 'user', { kind: 'proxy', uid: userUid });
  origin = await lab.user(lab.origin, 0);
  for (const on of ['203.0.113.1', '2001:db8:f::1']) await origin.ask({ op: 'echo', on, port: 80 });
  await origin.ask({ op: 'listen', on: '203.0.113.1', port: silentPort });
  await origin.ask({ op: 'udp', from: '203.0.113.1', port: 53, to: '', toPort: 0, timeout_ms: 1 });
});
afterAll(async () => {
  await lab.close();
  await removeCgroup(parent);
});

async function lease(holder: string, claim: object): Promise<Lease> {
  const session = await lab.client.sessions.open({ machine: 'edge', holder, ttl_s: 600 });
  const { leases } = await lab.client.leases.grant({ session: session.id, claims: [{ family: 4, ...claim } as never] });
  const [granted] = leases;
  if (!granted) throw new Error('no lease');
  return granted;
}
const stateOf = async (id: string): Promise<string> => (await lab.client.leases.get(id)).state;
const become = (id: string, wanted: string) =>
  eventually(
    async () => ((await stateOf(id)) === wanted ? true : undefined),
    () => `${id} is not ${wanted}\n${agent.output.slice(-2_000)}`,
  );
const dropped = async (): Promise<number> => (await agent.status()).counters.guard_cgroup?.packets ?? NaN;
const heard = (user: User, socket: string, text: string) =>
  eventually(
    async () => ((await user.ask({ op: 'heard', socket })).includes(text) ? true : undefined),
    () => `${text} was not echoed`,
  );

describe('where the agent sees no control groups', () => {
  it('a lease of a holder that is known by one is refused, with the reason', async () => {
    agent = lab.startAgent(config);
    await agent.ready();
    await expect(lease('web', { protocol: 'tcp', ports: 16 })).rejects.toMatchObject({ code: 'claim_refused' });
    const [refused] = (await lab.client.leases.list({ machine: 'edge', state: 'refused' })).items;
    expect(refused?.refusal).toMatchObject({ errno: 'EPERM' });
    expect(refused?.refusal?.detail).toContain('no cgroup2 hierarchy is mounted');
    await agent.end();
  });
});

describe('a holder that is known by its cgroup', () => {
  let inside: User;
  let below: User;
  let outside: User;
  beforeAll(async () => {
    agent = lab.startAgent(config, { seesCgroups: true });
    await agent.ready();
    const folder = makeCgroup(path);
    // Root, so that nothing but the cgroup can be what tells them apart.
    inside = await lab.user(lab.host, 0, folder);
    below = await lab.user(lab.host, 3_000, makeCgroup(`${path}/worker`));
    outside = await lab.user(lab.host, 0, makeCgroup(`${parent}/other.service`));
  });

  it('alone can use its ports, whoever its processes are, from its cgroup and those below it', async () => {
    const { ports } = await lease('web', { protocol: 'tcp', ports: 16 });
    expect(await inside.connect(address, ports.first)).toMatch(/^socket-/);
    expect(await below.connect(address, ports.first + 1)).toMatch(/^socket-/);
    const before = await dropped();
    expect(await outside.connect(address, ports.first + 2)).toBe('TIMEOUT');
    expect(await dropped()).toBeGreaterThan(before);
    expect(await inside.connect(address, ports.last + 1)).toBe('TIMEOUT');
  });

  it('has datagrams and IPv6 guarded as well', async () => {
    const udp = await lease('web', { protocol: 'udp', ports: 16 });
    expect(await inside.udp(address, udp.ports.first)).toMatch(/^socket-/);
    expect(await outside.udp(address, udp.ports.first + 1)).toBe('EPERM');
    const six = await lease('web', { protocol: 'tcp', ports: 16, family: 6 });
    expect(await inside.connect(address6, six.ports.first, '2001:db8:f::1')).toMatch(/^socket-/);
    expect(await outside.connect(address6, six.ports.first + 1, '2001:db8:f::1')).toBe('TIMEOUT');
  });

  it('is not stood in for by whom somebody else’s NAT moves onto its ports', async () => {
    const [tcp, udp] = [
      await lease('web', { protocol: 'tcp', ports: 16 }),
      await lease('web', { protocol: 'udp', ports: 16 }),
    ];
    const portsOf = ({ ports }: Lease) => `${ports.first}-${ports.last}`;
    lab.shell(
      lab.host,
      'nft -f -',
      `table ip other {
        chain post {
          type nat hook postrouting priority srcnat; policy accept;
          ip saddr 192.0.2.1 ip daddr 203.0.113.1 tcp dport 80 snat to ${address}:${portsOf(tcp)}
          ip saddr 192.0.2.1 ip daddr 203.0.113.1 udp dport 53 snat to ${address}:${portsOf(udp)}
        }
      }\n`,
    );
    await eventually(
      () => (lab.shell(lab.host, 'nft list chain inet fishery guard4_cgroup').includes('ct status') ? true : undefined),
      () => agent.output.slice(-2_000),
    );
    const capture = await lab.capture(lab.origin, 'o0', `src host ${address}`);
    expect(await outside.connect('192.0.2.1', 0)).toBe('TIMEOUT');
    expect(await outside.udp('192.0.2.1', 0)).toBe('EPERM');
    expect((await agent.status()).counters.guard_translated?.packets).toBeGreaterThanOrEqual(2);
    expect(capture.lines()).toBe(0);
    // Whose packets are what they were is let by, tracked or translated to itself.
    expect(await inside.connect(address, tcp.ports.first)).toMatch(/^socket-/);
    expect(await inside.udp(address, udp.ports.first)).toMatch(/^socket-/);
    await capture.stop();
    lab.shell(lab.host, 'nft delete table ip other');
  });

  it('shares a block with one that is known by its user id, and each leaves for itself', async () => {
    const claim = { protocol: 'tcp', mode: 'shared', ports: 16 };
    const byCgroup = await lease('web', claim);
    const byUser = await lease('user', claim);
    expect(byUser.ports).toEqual(byCgroup.ports);
    const { first } = byUser.ports;
    const user = await lab.user(lab.host, userUid);
    const its = await user.connect(address, first);
    expect(its).toMatch(/^socket-/);
    expect(await inside.connect(address, first + 1)).toMatch(/^socket-/);
    expect(await outside.connect(address, first + 2)).toBe('TIMEOUT');
    await lab.client.leases.revoke(byUser.id);
    await agent.until(({ leases }) => leases.some(({ phase }) => phase === 'clearing'), 'it does not end');
    expect(await user.connect(address, first + 3)).toBe('TIMEOUT');
    expect(await inside.connect(address, first + 4)).toMatch(/^socket-/);
    expect(await user.ask({ op: 'say', socket: its, text: 'still' })).toBe('said');
    await heard(user, its, 'still');
    await user.kill();
    await become(byUser.id, 'ended');
    expect(await stateOf(byCgroup.id)).toBe('active');
  });

  it('sends its last data and its FIN after it has closed, and nothing new once its lease ends', async () => {
    const granted = await lease('web', { protocol: 'tcp', ports: 16 });
    const { first } = granted.ports;
    const closing = await inside.connect(address, first, '203.0.113.1', silentPort);
    const draining = await inside.connect(address, first + 1);
    const capture = await lab.capture(lab.origin, 'o0', `tcp and src host ${address} and src port ${first}`);
    await inside.ask({ op: 'say', socket: closing, text: 'last words' });
    await inside.ask({ op: 'close', socket: closing });
    await lab.client.leases.revoke(granted.id);
    const { leases } = await agent.until(
      (status) => status.leases.some(({ lease: id, detail }) => id === granted.id && detail !== null),
      'nobody is waited for',
    );
    expect(leases.find(({ lease: id }) => id === granted.id)?.detail).toContain(`[${inside.child.pid}]`);
    expect(await inside.connect(address, first + 2)).toBe('TIMEOUT');
    expect(await inside.ask({ op: 'say', socket: draining, text: 'still' })).toBe('said');
    await heard(inside, draining, 'still');
    const seen = await capture.stop();
    expect(seen.some((line) => /Flags \[F/.test(line))).toBe(true);
    expect(seen.filter((line) => /Flags \[R/.test(line))).toEqual([]);
    await inside.ask({ op: 'close', socket: draining });
    await become(granted.id, 'ended');
    expect(await inside.connect(address, first)).toBe('TIMEOUT');
  });

  it('is refused ports that a stranger of the same user has, who is named', async () => {
    expect(await outside.ask({ op: 'listen', on: '0.0.0.0', port: 8_193 })).toMatch(/^socket-/);
    const claim = { protocol: 'tcp', ports: 16, at: { address, first_port: 8_192 } };
    await expect(lease('web', claim)).rejects.toMatchObject({ code: 'claim_refused' });
    const refused = (await lab.client.leases.list({ machine: 'edge', state: 'refused' })).items.find(
      ({ ports }) => ports.first === 8_192,
    );
    expect(refused?.refusal?.detail).toContain(`[${outside.child.pid}]`);
    expect(await inside.ask({ op: 'listen', on: '0.0.0.0', port: 8_209 })).toMatch(/^socket-/);
    expect((await lease('web', { ...claim, at: { address, first_port: 8_208 } })).state).toBe('active');
  });

  it('is known again after its service was started anew, in a cgroup of the same name', async () => {
    const { ports } = await lease('web', { protocol: 'tcp', ports: 16 });
    await inside.kill();
    await below.kill();
    await removeCgroup(path);
    await agent.until(
      ({ leases }) => leases.some(({ detail }) => detail?.includes(`cgroup ${path} is not there`) ?? false),
      'nobody has noticed',
    );
    expect(await outside.connect(address, ports.first)).toBe('TIMEOUT');
    inside = await lab.user(lab.host, 0, makeCgroup(path));
    const socket = await eventually(
      async () => {
        const answer = await inside.connect(address, ports.first);
        return answer.startsWith('socket-') ? answer : undefined;
      },
      () => agent.output.slice(-2_000),
    );
    expect(socket).toMatch(/^socket-/);
    expect(await outside.connect(address, ports.first + 1)).toBe('TIMEOUT');
    expect((await agent.status()).host.drift_repaired).toBe(0);
  });
});
