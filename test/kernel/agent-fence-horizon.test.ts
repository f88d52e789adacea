import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { eventually, type AgentProcess, type User } from './support/agent-lab.ts';
import { FakeUptime } from './support/fake-uptime.ts';
import {
  address,
  blocked_ms,
  cooldown_s,
  fence_s,
  FenceLab,
  fishLeases,
  long_fence_s,
  skew_s,
  sleepersAddress,
  webUid,
  type MachineName,
  type Seen,
} from './support/fence-lab.ts';

const origin = '203.0.113.1';
/** A little for the grain of clocks: that of jiffies, and of the wall clock against the boot clock. */
const grain_s = 0.1;
/** For what is to succeed, however much else the machine does. */
const patience_ms = 10_000;

let lab: FenceLab;
let agent: AgentProcess;
const users: User[] = [];

beforeAll(async () => {
  lab = await FenceLab.open('hz');
  await lab.setUp();
  const echo = await lab.user('origin', 0);
  for (const port of [80, 81]) await echo.ask({ op: 'echo', on: origin, port });
  await echo.ask({ op: 'udp', from: origin, port: 53, to: '', toPort: 0, timeout_ms: 1 });
});
afterAll(() => lab.close());
afterEach(async () => {
  lab.heal();
  lab.setWallClocks(0);
  await Promise.all(users.splice(0).map((user) => user.kill()));
  // A planned stop, so that nothing of fish's is left in the keepers for the next one.
  agent.child.kill('SIGCONT');
  const patience = setTimeout(() => agent.child.kill('SIGKILL'), 15_000);
  await agent.end();
  clearTimeout(patience);
});

async function user(where: 'a' | 'b' | 'client', uid: number): Promise<User> {
  const one = await lab.user(where, uid);
  users.push(one);
  return one;
}

async function lease(machine: MachineName, claim: object) {
  const session = await lab.client.sessions.open({ machine, holder: 'web', ttl_s: 600 });
  const { leases } = await lab.client.leases.grant({ session: session.id, claims: [claim as never] });
  const [granted] = leases;
  if (!granted) throw new Error('no lease');
  return granted;
}

/** As if the machine was heard of all the while, for as long as a test needs to look, by whoever has it now. */
async function keepHearing(machine: MachineName): Promise<NodeJS.Timeout> {
  const { boot_id } = (await lab.client.machines.get(machine)).agent ?? {};
  if (boot_id === undefined) throw new Error('nobody has it');
  await lab.keepalive(machine, boot_id);
  return setInterval(() => void lab.keepalive(machine, boot_id), 200);
}

const wall = (): number => Date.now() / 1_000;
const openOne = async (opening: Promise<string>): Promise<string> => {
  const socket = await opening;
  expect(socket).toMatch(/^socket-/);
  return socket;
};
const heard = (by: User, socket: string, text: string) =>
  eventually(
    async () => {
      await by.ask({ op: 'say', socket, text });
      return (await by.ask({ op: 'heard', socket })).includes(text) ? true : undefined;
    },
    () => `${text} was not echoed`,
    30_000,
  );
const isUp = () =>
  agent.until(
    ({ guard, lease_counts }) =>
      guard.open && !guard.fenced && (lease_counts['up'] ?? 0) >= fishLeases && !lease_counts['opening'],
    'the first machine is not at work',
    30_000,
  );

/**
 * A machine where everybody who may send does, without a pause: a proxy in a block of late binders, in one of explicit
 * binders and by datagrams; and clients behind fish, in a block of each binding and by datagrams.
 */
async function atWork(before?: string) {
  agent = lab.startAgent('a', before);
  await isUp();
  const web = await user('a', webUid);
  const client = await user('client', 0);
  const tcp = { protocol: 'tcp', mode: 'shared', ports: 16, family: 4 };
  const { ports: late } = await lease('a', { ...tcp, binding: 'late' });
  const { ports: explicit } = await lease('a', { ...tcp, binding: 'explicit' });
  const { ports: udp } = await lease('a', { protocol: 'udp', ports: 16, family: 4 });
  const to = { to: origin, toPort: 80, timeout_ms: patience_ms };
  const byProxy = [
    await openOne(web.ask({ op: 'late', from: address, ...late, ...to })),
    await openOne(web.connect(address, explicit.first, origin, 80, patience_ms)),
  ];
  const datagrams = await openOne(web.udp(address, udp.first, origin, 53, patience_ms));
  const throughFish = () => openOne(client.connect('100.64.0.2', 0, origin, 80, patience_ms));
  const byFish = [await throughFish(), await throughFish()];
  const datagramsByFish = await openOne(client.udp('100.64.0.2', 0, origin, 53, patience_ms));
  for (const socket of [...byProxy, datagrams]) await web.ask({ op: 'talk', socket, every_ms: 50 });
  for (const socket of [...byFish, datagramsByFish]) await client.ask({ op: 'talk', socket, every_ms: 50 });
  const capture = await lab.capture();
  await sleep(300);
  return { web, client, byProxy, byFish, capture, late, explicit };
}

/** The ports that packets came from, and that nobody was sent a reset. */
function judged(seen: readonly Seen[]): ReadonlySet<string> {
  expect(seen.filter(({ line }) => line.includes('Flags [R'))).toEqual([]);
  // Of tcp and of udp they have nothing to do with one another.
  return new Set(
    seen.flatMap(({ line }) => {
      // To the echo of datagrams, which tcpdump takes for questions of DNS, or to that of connections.
      const [, port, to] = /198\.51\.100\.\d+\.(\d+) > 203\.0\.113\.1\.(\d+):/.exec(line) ?? [];
      return port === undefined ? [] : [`${to === '53' ? 'udp' : 'tcp'} ${port}`];
    }),
  );
}
const lastOf = (seen: readonly Seen[]): number => Math.max(...seen.map(({ at }) => at));

/** Fish has ended its three flows, and gives its clients new ones, while the proxy's connections went on where they were. */
async function expectBegunAnew({ web, client, byProxy }: Awaited<ReturnType<typeof atWork>>) {
  for (const socket of byProxy) await heard(web, socket, 'survived');
  expect((await agent.status()).fish?.stats).toMatchObject({ flows_ended_fenced: 3 });
  // Its client sends datagrams all the while.
  await agent.until(({ fish }) => (fish?.stats['flows_live'] ?? 0) > 0, 'no flow begins anew');
  // What the origin still remembers of the connection that ended says nothing about another port of its.
  const again = await openOne(client.connect('100.64.0.2', 0, origin, 81, patience_ms));
  await heard(client, again, 'begun anew');
}

/** Waits until the horizon of everything that was answered before now has long passed. */
const outlast = () => sleep((fence_s + 1) * 1_000);

/** All six of those who talk were on the wire, and nothing of them after the horizon. */
function expectSilenceFrom(seen: readonly Seen[], horizon: number): void {
  expect(judged(seen).size).toBe(6);
  expect(lastOf(seen)).toBeLessThan(horizon + grain_s);
}

describe('after the horizon the origin hears nothing, and nobody was sent a reset', () => {
  it('when the agent is stopped where it stands; when it is let go, fish begins anew and proxies go on', async () => {
    const working = await atWork();
    const at = wall();
    agent.child.kill('SIGSTOP');
    await outlast();
    expectSilenceFrom((await working.capture.stop()).a, at + fence_s);
    agent.child.kill('SIGCONT');
    await isUp();
    await expectBegunAnew(working);
  });

  it('when the agent is killed; its successor goes on with all connections', async () => {
    const { web, client, byProxy, byFish, capture } = await atWork();
    const at = wall();
    await agent.end('SIGKILL');
    await outlast();
    expectSilenceFrom((await capture.stop()).a, at + fence_s);
    agent = lab.startAgent('a');
    await isUp();
    for (const socket of byProxy) await heard(web, socket, 'survived');
    for (const socket of byFish) await heard(client, socket, 'survived');
  });

  it("when the agent's own thread is stuck, though fish's goes on until it hears of it", async () => {
    const working = await atWork();
    const at = wall();
    agent.child.kill('SIGUSR2');
    await sleep(blocked_ms - 300);
    expectSilenceFrom((await working.capture.stop()).a, at + fence_s);
    await isUp();
    await expectBegunAnew(working);
  });

  it.each(['to the server', 'from the server'] as const)(
    'when nothing gets through %s: fish ends its flows, lets go of its ports, and opens no flow before an answer',
    async (direction) => {
      const working = await atWork();
      const at = wall();
      lab.cut(direction);
      const before = await agent.status();
      expect([before.guard.fenced, before.placeholders.open]).toEqual([false, 32]);
      await agent.until(({ guard, placeholders }) => guard.fenced && placeholders.open === 0, 'nothing is let go of');
      await agent.until(({ fish }) => (fish?.stats['drops_fenced'] ?? 0) > 0, 'the datagrams of a client begin flows');
      await outlast();
      expectSilenceFrom((await working.capture.stop()).a, at + fence_s);
      const { fish, keepers } = await agent.status();
      expect(fish?.stats).toMatchObject({ flows_live: 0, flows_resting: 0, placeholders_held: 0, flows_opened: 3 });
      expect(keepers.map(({ placeholders }) => placeholders)).toEqual([0]);
      lab.heal();
      await isUp();
      expect((await agent.status()).placeholders.open).toBe(32);
      await expectBegunAnew(working);
    },
  );

  it('when the server is killed; all leases go on as they were when it is there again with its file', async () => {
    const working = await atWork();
    const before = (await lab.client.leases.list({ machine: 'a', state: 'active' })).items.map(({ id }) => id);
    const at = wall();
    await lab.killServer();
    await outlast();
    expectSilenceFrom((await working.capture.stop()).a, at + fence_s);
    await lab.restartServer();
    await isUp();
    await expectBegunAnew(working);
    const after = (await lab.client.leases.list({ machine: 'a', state: 'active' })).items.map(({ id }) => id);
    expect(after).toEqual(before);
  }, 90_000);

  it.each([3_600_000, -3_600_000])('whatever the wall clocks say: they are set by %i ms', async (offMs) => {
    const { web, byProxy, capture } = await atWork();
    lab.setWallClocks(offMs);
    // More than a fence and a lease of time, on clocks that nobody may go by.
    await sleep((fence_s + 1) * 1_000);
    expect(agent.output).not.toContain('the guard is SHUT');
    expect((await lab.client.machines.get('a')).state).toBe('active');
    for (const socket of byProxy) await heard(web, socket, 'still there');
    const at = wall();
    lab.cut('to the server');
    await outlast();
    expectSilenceFrom((await capture.stop()).a, at + fence_s);
    lab.setWallClocks(0);
    lab.heal();
    await isUp();
    for (const socket of byProxy) await heard(web, socket, 'survived');
  });

  it('when the machine slept beyond it: the clock that counts goes on in sleep, the time-outs of the kernel do not', async () => {
    const clock = new FakeUptime(join(lab.folder, 'uptime'));
    try {
      agent = lab.startAgent('sleeper', `mount --bind ${clock.file} /proc/uptime`);
      await agent.until(({ guard }) => guard.open_for_s > long_fence_s / 2, 'the guard is not open for long', 30_000);
      const web = await user('b', webUid);
      const { ports } = await lease('sleeper', { protocol: 'tcp', ports: 16, family: 4 });
      const socket = await openOne(web.connect(sleepersAddress, ports.first, origin, 80, patience_ms));
      await web.ask({ op: 'talk', socket, every_ms: 50 });
      const capture = await lab.capture();
      await heard(web, socket, 'awake');
      lab.cut('from the server', 'b');
      clock.sleepFor(long_fence_s);
      await agent.until(({ guard }) => !guard.open, 'the guard is open');
      await eventually(
        () => (lab.shell('b', 'nft list set inet fishery alive').includes('elements') ? undefined : true),
        () => agent.output.slice(-2_000),
        5_000,
      );
      const shutAt = wall();
      await eventually(
        () => (agent.output.includes('the machine slept for') ? true : undefined),
        () => agent.output.slice(-2_000),
      );
      await sleep(1_000);
      const { b } = await capture.stop();
      expect(judged(b).size).toBe(1);
      expect(lastOf(b)).toBeLessThan(shutAt + grain_s);
      lab.heal();
      await agent.until(({ guard }) => guard.open, 'the guard stays shut', 30_000);
      await heard(web, socket, 'survived');
    } finally {
      clock.stop();
    }
  }, 90_000);
});

describe('a machine that was started anew', () => {
  it('sends nothing before the server has answered it, which is not before the guard of the boot before has shut', async () => {
    const { capture, explicit } = await atWork();
    const rebootId = join(lab.folder, 'boot_id');
    writeFileSync(rebootId, '11111111-2222-4333-8444-555555555555\n');
    // What a reboot takes with it: every process, keepers included, and what the kernel was told. The state file stays.
    lab.killAll('a');
    await agent.ended();
    for (const command of [
      'nft flush ruleset',
      'ip link del fishtun',
      `ip addr del ${address}/32 dev lo`,
      'ip rule del fwmark 0x2a/0xff; true',
      'ip route flush table 100; true',
    ])
      lab.shell('a', command);
    const silent = await lab.capture();
    await capture.stop();
    // As if the machine had been heard of just before it went down, for as long as this test needs to look.
    const keeping = await keepHearing('a');
    agent = lab.startAgent('a', `mount --bind ${rebootId} /proc/sys/kernel/random/boot_id`);
    const again = await user('a', webUid);
    try {
      // The host is as it should be, with everything that the lease needs, but for an answer.
      await agent.until(
        ({ guard: { problem } }) => problem?.includes('another boot') ?? false,
        'it was answered',
        20_000,
      );
      expect(lab.shell('a', 'ip -o addr show dev lo')).toContain(address);
      expect(await again.connect(address, explicit.last)).toBe('TIMEOUT');
      expect((await agent.status()).guard.open).toBe(false);
      expect((await silent.stop()).a).toEqual([]);
    } finally {
      clearInterval(keeping);
    }
    await isUp();
    expect(await again.connect(address, explicit.last, origin, 80, patience_ms)).toMatch(/^socket-/);
  }, 90_000);
});

describe('two agents of one machine, in two network namespaces of one kernel', () => {
  it('are told apart: the second is not answered and nothing leaves from it, while the first may be started again', async () => {
    agent = lab.startAgent('sleeper');
    await agent.ready();
    const { ports } = await lease('sleeper', { protocol: 'udp', ports: 16, family: 4 });
    const twin = lab.startTwin('sleeper', 'a');
    try {
      const { guard } = await twin.until(
        ({ guard: { problem } }) => problem?.includes('another host') ?? false,
        'it was answered',
      );
      expect(guard.open).toBe(false);
      // It has what it would need, but for that.
      await twin.until(
        ({ host, lease_counts }) => host.problem === null && (lease_counts['up'] ?? 0) > 0,
        'it has no lease',
      );
      const capture = await lab.capture();
      const [first, second] = [await user('b', webUid), await user('a', webUid)];
      await openOne(first.udp(sleepersAddress, ports.first, origin, 53, patience_ms));
      expect(await second.udp(sleepersAddress, ports.first, origin, 53)).not.toMatch(/^socket-/);
      const { a, b } = await capture.stop();
      expect(a).toEqual([]);
      expect(judged(b)).toEqual(new Set([`udp ${ports.first}`]));
      await agent.end('SIGKILL');
      agent = lab.startAgent('sleeper');
      await agent.ready();
      expect((await twin.status()).guard.open).toBe(false);
    } finally {
      await twin.end('SIGKILL');
      lab.shell('a', `nft delete table inet fishery; ip addr del ${sleepersAddress}/32 dev lo; true`);
    }
  }, 90_000);
});

describe('a slice reaches another machine', () => {
  it('only after the first one has long been silent, whatever becomes of the server meanwhile', async () => {
    const { capture } = await atWork();
    const other = lab.startAgent('b');
    try {
      await other.ready();
      const web = await user('b', webUid);
      agent.child.kill('SIGSTOP');
      await lab.client.machines.update({ id: 'a', revision: '*' }, { state: 'lost' });
      // In the middle of it: what was in memory is gone, and the machine has a whole fence from the start.
      await lab.killServer();
      const startedAt = wall();
      await lab.restartServer();
      await eventually(
        async () => {
          const { slices } = await lab.client.slices
            .assign({ machine: 'b', pool: 'pool', at: { address, first_port: 8_192 } })
            .catch(() => ({ slices: [] }));
          return slices[0];
        },
        () => 'the slice does not come free',
        30_000,
      );
      const assignedAt = wall();
      lab.routeTo('b');
      const { ports } = await eventually(
        () => lease('b', { protocol: 'tcp', ports: 16, family: 4 }).catch(() => undefined),
        () => other.output.slice(-2_000),
        30_000,
      );
      expect(await web.connect(address, ports.first, origin, 80, patience_ms)).toMatch(/^socket-/);
      // Back from the dead, with all its sockets and its old idea of what it has.
      agent.child.kill('SIGCONT');
      await agent.until(({ guard }) => !guard.open, 'its guard is open', 20_000);
      await sleep((fence_s + 1) * 1_000);
      const { a, b } = await capture.stop();
      expect(judged(a).size).toBe(6);
      expect(b.length).toBeGreaterThan(0);
      const first = Math.min(...b.map(({ at }) => at));
      expect(first).toBeGreaterThan(lastOf(a) + skew_s + cooldown_s);
      // By the log of the server: nothing was taken before a fence from its start, and rested after that.
      expect(assignedAt).toBeGreaterThan(startedAt + fence_s + skew_s - 1 + cooldown_s - grain_s);
      const { items } = await lab.client.slices.list({ machine: 'a' });
      expect(items.filter(({ state }) => state === 'assigned')).toEqual([]);
    } finally {
      await other.end('SIGKILL');
      lab.routeTo('a');
    }
  }, 90_000);
});
