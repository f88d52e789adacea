import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { LeaseList } from '../../src/wire/leases.ts';
import { Session } from '../../src/wire/sessions.ts';
import { AgentLab, eventually, type AgentProcess, type User } from './support/agent-lab.ts';
import { FakeUptime } from './support/fake-uptime.ts';

/** Of a slice that the server grants in, and of one that the host's broker does. */
const fishsAddress = '198.51.100.10';
const brokersAddress = '198.51.100.11';
const fence_s = 120;
const webUid = 2_001;
const strangerUid = 2_009;

let lab: AgentLab;
let agent: AgentProcess;
let web: User;
let stranger: User;
let socket: string;
let config: string;
let lease: LeaseList['leases'][number];
let session: Session;
/** One of fish's own ports. */
let fishsPort: number;

const Answered = z.object({ status: z.number(), body: z.unknown() });
const ask = async (path: string, body: object) =>
  Answered.parse(JSON.parse(await web.ask({ op: 'ask', broker: socket, path, body })));
const table = () => lab.shell(lab.host, 'nft list table inet fishery');

/** The server is away; an agent is killed, and the next one starts. */
beforeAll(async () => {
  lab = await AgentLab.open('outage');
  socket = join(lab.folder, 'broker.sock');
  const fish = { client_prefixes: ['100.64.0.0/10'], claims: [{ protocol: 'tcp', ports: 16 }], session_ttl_s: 600 };
  config = await lab.setUp({ fence_s, settings: { broker: { socket }, client_interfaces: ['hc'], fish } });
  await lab.client.machines.putHolder('edge', 'web', { kind: 'proxy', uid: webUid });
  const origin = await lab.user(lab.origin, 0);
  await origin.ask({ op: 'echo', on: '203.0.113.1', port: 80 });
  agent = lab.startAgent(config);
  await agent.until(({ fish: its, lease_counts: of }) => its?.answered === 1 && of['up'] === 1, 'fish has no lease');
  const [fishs] = (await lab.client.leases.list({ machine: 'edge' })).items;
  fishsPort = fishs!.ports.first;
  const at = { address: brokersAddress, first_port: 8_192 };
  await lab.client.slices.assign({ machine: 'edge', pool: 'pool', allocator: 'machine', at });
  web = await lab.user(lab.host, webUid);
  stranger = await lab.user(lab.host, strangerUid);
  const opened = await eventually(
    async () => {
      const answer = await ask('/v1/sessions', { machine: 'edge', holder: 'web', ttl_s: 600 });
      return answer.status === 201 ? Session.parse(answer.body) : undefined;
    },
    () => agent.output.slice(-3_000),
  );
  session = opened;
  lease = await eventually(
    async () => {
      const claims = [{ protocol: 'tcp', ports: 16 }];
      const answer = await ask('/v1/leases', { session: session.id, claims });
      return answer.status === 201 ? LeaseList.parse(answer.body).leases[0] : undefined;
    },
    () => agent.output.slice(-3_000),
  );
  await agent.ready();
  lab.freezeServer(true);
  await agent.end('SIGKILL');
  agent = lab.startAgent(config);
  await agent.until(
    ({ lease_counts: of }) => of['up'] === 2,
    'nothing is looked after while the server is away',
    60_000,
  );
}, 120_000);
afterAll(() => lab.close());

describe('an agent that starts while the server is away', () => {
  it("has the host's broker go on, and the guard as it was left", { timeout: 60_000 }, async () => {
    expect((await agent.status()).guard).toMatchObject({ open: true, answered_s_ago: null });
    expect((await ask(`/v1/sessions/${session.id}/keepalive`, {})).status).toBe(200);
    expect(await web.connect(lease.address, lease.ports.first)).toMatch(/^socket-/);
    const { code, text } = await agent.get('/healthz');
    expect([code, text]).toEqual([503, expect.not.stringContaining('guard')]);
  });

  it('starts a keeper anew before a stranger has its ports', { timeout: 60_000 }, async () => {
    const [before] = (await agent.status()).keepers;
    process.kill(before!.pid, 'SIGKILL');
    await agent.until(
      ({ keepers, placeholders, keepers_replaced: replaced }) =>
        replaced > 0 && keepers.every(({ problem }) => problem === null) && placeholders.missing === 0,
      'the keeper is not replaced',
    );
    expect(await stranger.ask({ op: 'listen', on: fishsAddress, port: fishsPort })).toBe('EADDRINUSE');
  });

  it('puts the table back that somebody deleted, shut, and says so', { timeout: 60_000 }, async () => {
    const before = table();
    lab.shell(lab.host, 'nft delete table inet fishery');
    const { guard } = await agent.until(({ guard: its }) => !its.open, 'the guard is said to be open');
    expect(guard).toMatchObject({ open: false, open_for_s: 0 });
    await eventually(table, () => 'there is no table');
    const rules = (text: string) => text.split('\n').filter((line) => / drop$/.test(line)).length;
    expect(rules(table())).toBe(rules(before));
    expect(await stranger.connect(lease.address, lease.ports.last + 1_000)).toBe('TIMEOUT');
    expect(await web.connect(lease.address, lease.ports.last)).toBe('TIMEOUT');
    expect((await ask('/v1/leases', { session: session.id, claims: [{ protocol: 'tcp', ports: 16 }] })).status).toBe(
      503,
    );
    expect((await ask(`/v1/sessions/${session.id}/keepalive`, {})).status).toBe(200);
  });

  it('goes by the server again as soon as that answers', { timeout: 60_000 }, async () => {
    lab.freezeServer(false);
    await agent.until(
      ({ guard, server, fish, lease_counts: of }) =>
        guard.answered_s_ago !== null && server.problem === null && fish?.answered === 1 && of['up'] === 2,
      'not everything is as before',
    );
    await eventually(
      async () => ((await agent.get('/healthz')).code === 200 ? true : undefined),
      () => agent.output.slice(-3_000),
    );
    expect(await web.connect(lease.address, lease.ports.last)).toMatch(/^socket-/);
    const { items } = await lab.client.leases.list({ machine: 'edge', allocator: 'server' });
    expect(items.filter(({ state }) => state === 'active').map(({ ports }) => ports.first)).toEqual([fishsPort]);
  });

  it('is shut at once where the machine has slept past the horizon, and fish ends what it finds', async () => {
    lab.freezeServer(true);
    const clock = new FakeUptime(join(lab.folder, 'uptime'));
    try {
      await agent.end('SIGKILL');
      clock.sleepFor(fence_s);
      const isOpenInKernel = () => lab.shell(lab.host, 'nft list set inet fishery alive').includes('elements');
      // Its time-out stands while the machine sleeps.
      expect(isOpenInKernel()).toBe(true);
      agent = lab.startAgent(config, { before: `mount --bind ${clock.file} /proc/uptime` });
      const { guard } = await agent.until(
        ({ guard: its, fish, placeholders }) => its.fenced && fish?.running === true && placeholders.open === 0,
        'it goes on past the horizon',
        60_000,
      );
      expect([guard.open, guard.fence_s, isOpenInKernel()]).toEqual([false, fence_s, false]);
      expect(agent.output).toContain('left open past the horizon');
      lab.freezeServer(false);
      await agent.until(
        ({ guard: its, lease_counts: of, placeholders }) => its.open && of['up'] === 2 && placeholders.open === 16,
        'not everything is as before',
        60_000,
      );
    } finally {
      clock.stop();
    }
  }, 120_000);
});
