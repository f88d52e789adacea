import { readdirSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AgentLab, AgentProcess, bin, eventually } from './support/agent-lab.ts';
import type { ProbedBlock, ProbeReport } from './support/prober-process.ts';

const misplacer = fileURLToPath(new URL('./support/misplacer-process.ts', import.meta.url));
const prober = fileURLToPath(new URL('./support/prober-process.ts', import.meta.url));
const address = '198.51.100.10';
const held = 64 + 64 + 16;

let lab: AgentLab;
let config: string;
let agent: AgentProcess;
let blocks: readonly ProbedBlock[];

const isUp = (of = agent) =>
  of.until(
    ({ lease_counts, guard, fish, host }) =>
      lease_counts['up'] === 3 && guard.open && fish?.running === true && host.problem === null,
    'fish has not its leases',
    60_000,
  );
const begin = async (): Promise<AgentProcess> => {
  const started = lab.startAgent(config);
  await isUp(started);
  return started;
};

beforeAll(async () => {
  lab = await AgentLab.open('keeper');
  config = await lab.setUp({
    // However slow the machine is, the leases stay.
    fence_s: 60,
    settings: {
      client_interfaces: ['hc'],
      // A planned stop is one for good here.
      keep: false,
      fish: {
        client_prefixes: ['100.64.0.0/10'],
        session_ttl_s: 3_600,
        claims: [
          { protocol: 'tcp', ports: 64 },
          { protocol: 'udp', ports: 64 },
          { protocol: 'icmp', ports: 16 },
        ],
        timers: { tcp_rest_s: 0 },
      },
    },
  });
  agent = await begin();
  blocks = await blocksOfFish();
}, 90_000);
afterAll(() => lab.close());

async function blocksOfFish(): Promise<readonly ProbedBlock[]> {
  const { items } = await lab.client.leases.list({ machine: 'edge', state: 'active' });
  return items.map(({ protocol, ports }) => ({ protocol, address, ...ports }));
}

/** Hammers the leased ports until it is told to stop, and says what it got. */
async function probe(): Promise<Readonly<{ stop: () => Promise<ProbeReport> }>> {
  const child = lab.spawn(lab.host, [process.execPath, prober, JSON.stringify(blocks)]);
  let text = '';
  child.stdout?.on('data', (chunk: Buffer) => (text += chunk.toString()));
  await eventually(
    () => (text.includes('ready') ? true : undefined),
    () => 'the prober does not begin',
  );
  return {
    stop: async () => {
      const ended = new Promise((resolve) => child.once('close', resolve));
      child.kill('SIGTERM');
      await ended;
      return JSON.parse(text.replace('ready\n', '')) as ProbeReport;
    },
  };
}

const keeperOf = async (): Promise<number> => (await agent.status()).keepers[0]?.pid ?? NaN;
const descriptorsOf = (pid: number): readonly string[] =>
  readdirSync(`/proc/${pid}/fd`).map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`));
/** The folder's name is that of the mount namespace in which it was opened. */
const hasTun = (pid: number): boolean => descriptorsOf(pid).some((link) => link.endsWith('/net/tun'));
const socketsOf = (pid: number): readonly string[] =>
  descriptorsOf(pid)
    .filter((link) => link.startsWith('socket:'))
    .sort();
const isRunning = (pid: number): boolean =>
  lab.shell(lab.host, `ps -o stat= -p ${pid} || true`).replace(/^Z.*/, '') !== '';

describe('ports of fish', () => {
  it('live in a native keeper, beside the TUN, and take none of the agent’s own descriptors', async () => {
    const status = await agent.status();
    expect(status.keepers).toEqual([
      expect.objectContaining({ number: 0, implementation: 'native', placeholders: held, problem: null }),
    ]);
    expect(status.placeholders).toMatchObject({ open: held, missing: 0, reopened: 0 });
    const pid = await keeperOf();
    expect(socketsOf(pid).length).toBeGreaterThanOrEqual(held);
    expect(hasTun(pid)).toBe(true);
    expect(descriptorsOf(agent.child.pid ?? NaN).length).toBeLessThan(held);
  });

  it('are nobody’s for a moment while the agent is killed and comes back, again and again', async () => {
    const pid = await keeperOf();
    const before = socketsOf(pid);
    const probing = await probe();
    for (let round = 0; round < 3; round++) {
      await agent.end('SIGKILL');
      agent = await begin();
    }
    const { got, refusals, attempts } = await probing.stop();
    expect(got).toEqual([]);
    expect(attempts).toBeGreaterThan(3 * held);
    expect(Object.keys(refusals).sort()).toEqual(['EADDRINUSE', 'EADDRNOTAVAIL']);
    // The same sockets in the same keeper: none was opened again, none was left over.
    expect(await keeperOf()).toBe(pid);
    await eventually(
      () => (socketsOf(pid).length === before.length ? true : undefined),
      () => `${socketsOf(pid).length} sockets instead of ${before.length}`,
    );
    expect((await agent.status()).placeholders).toMatchObject({ open: held, missing: 0, reopened: 0 });
    expect(agent.output).not.toContain('is lost');
    expect(hasTun(pid)).toBe(true);
  });

  it('are believed by what the kernel says: what lies under a record and is something else is opened anew', async () => {
    const pid = await keeperOf();
    await agent.end('SIGKILL');
    const wrong = lab.shell(lab.host, `${process.execPath} ${misplacer} 4`);
    expect(wrong).toBe('misplaced 4');
    agent = await begin();
    const status = await agent.status();
    expect(status).toMatchObject({ keepers_replaced: 0, placeholders: { open: held, missing: 0, disbelieved: 4 } });
    expect(agent.output).toContain('in a keeper was something else than stands beside it');
    expect(await keeperOf()).toBe(pid);
    const probing = await probe();
    expect((await probing.stop()).got).toEqual([]);
    expect((await agent.get('/metrics')).text).toContain('fishery_agent_placeholders_disbelieved_total 4');
  });

  it('are opened again at once when the keeper is killed, which is counted', async () => {
    const first = await keeperOf();
    process.kill(first, 'SIGKILL');
    const status = await agent.until(
      ({ keepers, placeholders, fish, host }) =>
        keepers[0]?.pid !== first &&
        keepers[0]?.placeholders === held &&
        placeholders.missing === 0 &&
        fish?.running === true &&
        host.problem === null,
      'the keeper is not back',
      60_000,
    );
    expect(status).toMatchObject({ keepers_replaced: 1, placeholders: { open: held, reopened: held } });
    const probing = await probe();
    expect((await probing.stop()).got).toEqual([]);
    expect(hasTun(await keeperOf())).toBe(true);
    const { text } = await agent.get('/metrics');
    expect(text).toContain('fishery_agent_keepers_replaced_total 1');
    expect(text).toContain(`fishery_agent_placeholders_reopened_total ${held}`);
    expect(text).toContain(`fishery_agent_keeper_placeholders{keeper="0",implementation="native"} ${held}`);
  });

  it('that a stranger took while the keeper was dead are said to be missing, by whom, until they are back', async () => {
    const tcp = blocks.find(({ protocol }) => protocol === 'tcp');
    const stranger = await lab.user(lab.host, 2_001);
    const pid = await keeperOf();
    agent.child.kill('SIGSTOP');
    process.kill(pid, 'SIGKILL');
    const taken = await eventually(
      async () => {
        const answer = await stranger.ask({ op: 'listen', on: address, port: tcp?.first ?? NaN });
        return answer.startsWith('socket-') ? answer : undefined;
      },
      () => 'the port is still held',
    );
    agent.child.kill('SIGCONT');
    const { host } = await agent.until(({ placeholders }) => placeholders.missing === 1, 'nothing is missing', 60_000);
    expect(host.problem).toMatch(
      new RegExp(`placeholders are missing .* tcp port ${tcp?.first} of ${address}: a tcp socket \\(listen\\)`),
    );
    expect((await agent.get('/healthz')).text).toContain(`of user 2001: `);
    await stranger.ask({ op: 'close', socket: taken });
    await agent.until(
      ({ placeholders, host: it }) => placeholders.missing === 0 && it.problem === null,
      'still missing',
    );
    const probing = await probe();
    expect((await probing.stop()).got).toEqual([]);
  });
});

describe('when everything of Fishery dies', () => {
  it('packets to a living connection are dropped, not reset', async () => {
    const origin = await lab.user(lab.origin, 0);
    await origin.ask({ op: 'echo', on: '203.0.113.1', port: 80 });
    const client = await lab.user(lab.clientSide, 0);
    const socket = await client.connect('100.64.0.2', 0, '203.0.113.1', 80, 10_000);
    expect(socket).toMatch(/^socket-/);
    await client.ask({ op: 'say', socket, text: 'before' });
    const heard = () => client.ask({ op: 'heard', socket });
    await eventually(
      async () => ((await heard()).includes('before') ? true : undefined),
      () => 'no echo',
    );
    const established = () => lab.shell(lab.origin, 'ss -tnH state established sport = :80');
    const peer = / (198\.51\.100\.10:\d+)/.exec(established())?.[1] ?? 'nobody';
    const pid = await keeperOf();
    const seen = await lab.capture(lab.origin, 'o0', `tcp port 80`);
    await agent.end('SIGKILL');
    process.kill(pid, 'SIGKILL');
    await eventually(
      () => (isRunning(pid) ? undefined : true),
      () => 'the keeper is still there',
    );
    // Its program ends, so the origin's kernel speaks, and again and again when nobody answers.
    await origin.kill();
    const waiting = () => lab.shell(lab.origin, 'ss -tnH state fin-wait-1 sport = :80');
    await sleep(2_000);
    const lines = await seen.stop();
    expect(lines.filter((line) => line.includes('Flags [R'))).toEqual([]);
    const [host = '', port = ''] = peer.split(':');
    expect(lines.filter((line) => line.includes(`> ${host}.${port}: Flags [F`)).length).toBeGreaterThan(1);
    expect(waiting()).toContain(peer);

    agent = await begin();
    expect((await agent.status()).placeholders).toMatchObject({ open: held, missing: 0 });
  });
});

describe('a keeper that stands still', () => {
  it('is killed, and everything is in another one, while the guard stays open and the status is told', async () => {
    const pid = await keeperOf();
    process.kill(pid, 'SIGSTOP');
    const [first] = (await lab.client.leases.list({ machine: 'edge', state: 'active' })).items;
    // Something of it is to be closed: then it is needed.
    await lab.client.leases.revoke(first!.id);
    const { keepers } = await agent.until(
      ({ keepers: [keeper], placeholders: { open, missing }, lease_counts, guard }) =>
        keeper?.pid !== pid &&
        keeper?.problem === null &&
        open === held &&
        missing === 0 &&
        lease_counts['up'] === 3 &&
        guard.open,
      'it is not replaced',
      60_000,
    );
    expect(keepers).toHaveLength(1);
    expect(isRunning(pid)).toBe(false);
    expect(agent.output).not.toContain('the guard is SHUT');
    blocks = await blocksOfFish();
  }, 90_000);
});

describe('a keeper of its own unit', () => {
  it('is used where it runs, and ended with everything by down', async () => {
    const started = await keeperOf();
    expect(await agent.end()).toBe(0);
    await eventually(
      () => (isRunning(started) ? undefined : true),
      () => 'a keeper outlives a stop that gives everything back',
    );
    const unit = lab.spawn(lab.host, [process.execPath, bin, 'keeper', '--keeper', 'typescript']);
    let said = '';
    unit.stdout?.on('data', (chunk: Buffer) => (said += chunk.toString()));
    await eventually(
      () => (said.includes('ready') ? true : undefined),
      () => 'the unit does not begin',
    );
    agent = await begin();
    // What was given back may be granted elsewhere.
    blocks = await blocksOfFish();
    const pid = await keeperOf();
    expect((await agent.status()).keepers).toMatchObject([{ implementation: 'typescript', placeholders: held }]);
    const probing = await probe();
    await agent.end('SIGKILL');
    agent = await begin();
    expect((await probing.stop()).got).toEqual([]);
    expect(await keeperOf()).toBe(pid);
    await agent.end('SIGKILL');
    expect(lab.down(config)).toMatch(/^end keeper 0 with \d+ descriptors\n/);
    expect(isRunning(pid)).toBe(false);
  });
});

describe('in containers', () => {
  /** As process 1 of a PID namespace of its own, which ends with it. */
  const contained = (...args: string[]) =>
    lab.spawn(lab.host, [
      ...['unshare', '--pid', '--fork', '--kill-child', '--mount-proc', process.execPath, bin],
      ...args,
    ]);
  const beginContained = async () => {
    agent = new AgentProcess(contained('agent', '--config', config), join(lab.folder, 'state', 'agent.sock'));
    await isUp();
  };
  const ending = 'this keeper ends with the agent, because the container does';

  it('a keeper of its own keeps everything when that of the agent is gone; without one the agent says what that means', async () => {
    await agent.end('SIGKILL');
    lab.down(config);
    const keeper = contained('keeper');
    let said = '';
    keeper.stdout?.on('data', (chunk: Buffer) => (said += chunk.toString()));
    await eventually(
      () => (said.includes('ready') ? true : undefined),
      () => 'the keeper does not begin',
    );
    await beginContained();
    expect(agent.output).not.toContain(ending);
    blocks = await blocksOfFish();
    const probing = await probe();
    await agent.end('SIGKILL');
    await beginContained();
    expect((await probing.stop()).got).toEqual([]);
    expect(await agent.status()).toMatchObject({ placeholders: { open: held, missing: 0, reopened: 0 } });
    await agent.end('SIGKILL');
    keeper.kill('SIGKILL');
    await beginContained();
    expect(agent.output).toContain(ending);
    await agent.end('SIGKILL');
    lab.down(config);
  }, 90_000);
});
