import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { LeaseList } from '../../src/wire/leases.ts';
import { Problem } from '../../src/wire/problems.ts';
import { Session } from '../../src/wire/sessions.ts';
import { AgentLab, eventually, type AgentProcess, type User } from './support/agent-lab.ts';

const address = '198.51.100.10';
const webUid = 2_001;
const strangerUid = 2_009;

let lab: AgentLab;
let agent: AgentProcess;
let web: User;
let stranger: User;
let socket: string;
let config: string;

beforeAll(async () => {
  lab = await AgentLab.open('broker');
  socket = join(lab.folder, 'broker.sock');
  const fish = {
    client_prefixes: ['100.64.0.0/10'],
    claims: [{ protocol: 'tcp', ports: 16 }],
    session_ttl_s: 600,
  };
  // Long enough for everything here to happen while the server does not answer.
  const settings = { broker: { socket }, client_interfaces: ['hc'], fish };
  config = await lab.setUp({ fence_s: 120, slices: [], settings });
  await lab.client.machines.putHolder('edge', 'web', { kind: 'proxy', uid: webUid });
  const origin = await lab.user(lab.origin, 0);
  await origin.ask({ op: 'echo', on: '203.0.113.1', port: 80 });
  agent = lab.startAgent(config);
  await agent.ready();
  const at = { address, first_port: 8_192 };
  const { slices } = await lab.client.slices.assign({ machine: 'edge', pool: 'pool', allocator: 'machine', at });
  await eventually(
    async () => ((await lab.client.slices.get(slices[0]?.id ?? '')).state === 'assigned' ? true : undefined),
    () => `the slice is not assigned\n${agent.output.slice(-3_000)}`,
  );
  web = await lab.user(lab.host, webUid);
  stranger = await lab.user(lab.host, strangerUid);
}, 120_000);
afterAll(() => lab.close());

const Answered = z.object({ status: z.number(), body: z.unknown() });
const ask = async (who: User, path: string, body: object) =>
  Answered.parse(JSON.parse(await who.ask({ op: 'ask', broker: socket, path, body })));

describe('fish where the machine grants itself', () => {
  it('has its leases of the broker, and a new agent takes them over', { timeout: 60_000 }, async () => {
    const hasAll = () =>
      agent.until(
        ({ fish, lease_counts }) => fish?.answered === 1 && lease_counts['up'] === 1,
        'fish has not its leases of the broker',
      );
    await hasAll();
    const client = await lab.user(lab.clientSide, 0);
    const connection = await client.connect('100.64.0.2', 10_000, '203.0.113.1', 80, 10_000);
    expect(connection).toMatch(/^socket-/);
    const before = (await agent.status()).fish?.session ?? '';
    const whose = { machine: 'edge', allocator: 'machine' } as const;
    const ofFish = async () =>
      (await lab.client.leases.list(whose)).items.filter(
        ({ holder, state }) => holder === 'fish' && state === 'active',
      );
    const known = await eventually(
      async () => ((await ofFish()).length === 1 ? ofFish() : undefined),
      () => "the server does not show fish's lease",
    );
    await agent.end('SIGKILL');
    agent = lab.startAgent(config);
    await agent.ready();
    await hasAll();
    expect((await agent.status()).fish?.session).toBe(known[0]?.session);
    expect(before).not.toBe('');
    expect((await ofFish()).map(({ id }) => id)).toEqual(known.map(({ id }) => id));
    await client.ask({ op: 'say', socket: connection, text: 'still' });
    await eventually(
      async () => ((await client.ask({ op: 'heard', socket: connection })) === 'still' ? true : undefined),
      () => `the flow did not go on\n${agent.output.slice(-3_000)}`,
    );
  });
});

describe('a proxy on a host whose server does not answer', () => {
  it(
    'leases ports of the broker, sends from them under the guard, and is known by name afterwards',
    { timeout: 60_000 },
    async () => {
      lab.freezeServer(true);
      const wanted = { machine: 'edge', holder: 'web', ttl_s: 600 };
      const refused = await ask(stranger, '/v1/sessions', wanted);
      expect([refused.status, Problem.parse(refused.body).code]).toEqual([403, 'unknown_user']);
      const opened = await eventually(
        async () => {
          const answer = await ask(web, '/v1/sessions', wanted);
          return answer.status === 201 ? Session.parse(answer.body) : undefined;
        },
        () => agent.output.slice(-3_000),
      );
      const lease = await eventually(
        async () => {
          const answer = await ask(web, '/v1/leases', { session: opened.id, claims: [{ protocol: 'tcp', ports: 16 }] });
          return answer.status === 201 ? LeaseList.parse(answer.body).leases[0] : undefined;
        },
        () => agent.output.slice(-3_000),
      );
      expect(lease).toMatchObject({ state: 'active', holder: 'web', address });

      const connection = await web.connect(address, lease.ports.first);
      expect(connection).toMatch(/^socket-/);
      await web.ask({ op: 'say', socket: connection, text: 'hello' });
      await eventually(
        async () => ((await web.ask({ op: 'heard', socket: connection })) === 'hello' ? true : undefined),
        () => 'nothing came back',
      );
      expect(await stranger.connect(address, lease.ports.first + 1)).toBe('TIMEOUT');
      expect(await web.connect(address, lease.ports.last + 1_000)).toBe('TIMEOUT');
      expect((await agent.status()).broker).toMatchObject({ running: true, leases: 2, socket });

      lab.freezeServer(false);
      const whose = { machine: 'edge', allocator: 'machine' } as const;
      await eventually(
        async () => {
          const { items } = await lab.client.leases.list(whose);
          return (
            items.some(({ id, state, holder }) => id === lease.id && state === 'active' && holder === 'web') ||
            undefined
          );
        },
        () => `the server does not show the lease\n${agent.output.slice(-3_000)}`,
      );
      const port = lease.ports.first;
      await eventually(
        async () => {
          const question = { address, port, protocol: 'tcp', at: lease.active_at ?? '' } as const;
          const { holders, certainty } = await lab.client.attribution(question);
          return (certainty === 'exact' && holders.some(({ holder }) => holder === 'web')) || undefined;
        },
        () => 'nobody is said to have had the port',
      );
    },
  );
});
