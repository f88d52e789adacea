import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AgentLab, type AgentProcess, type User } from './support/agent-lab.ts';

/** Of TCP four ports, and up to sixteen; of UDP eight that stay eight. */
const fish = {
  client_prefixes: ['100.64.0.0/10'],
  claims: [
    { protocol: 'tcp', ports: 4, grow: { ports_max: 16, hold_s: 0.5, drain_s: 60 } },
    { protocol: 'udp', ports: 8 },
  ],
  timers: { tcp_rest_s: 0 },
  client_limits: { share: 1 },
  refuse_tcp_with: 'rst',
};

let lab: AgentLab;
let agent: AgentProcess;
let client: User;
const sockets: string[] = [];

const growth = async () => (await agent.status()).fish?.growth[0];
const noPort = async () => (await agent.status()).fish?.stats['drops_no_port'];
/** As many connections to the one origin as there are to be. */
async function connectUpTo(count: number): Promise<void> {
  while (sockets.length < count) {
    const socket = await client.connect('100.64.0.2', 10_000 + sockets.length, '203.0.113.1', 80, 10_000);
    expect(socket).toMatch(/^socket-/);
    sockets.push(socket);
  }
}
const leases = async () => (await lab.client.leases.list({ machine: 'edge', state: 'active' })).items;

beforeAll(async () => {
  lab = await AgentLab.open('growth');
  const config = await lab.setUp({ settings: { client_interfaces: ['hc'], fish } });
  const origin = await lab.user(lab.origin, 0);
  await origin.ask({ op: 'echo', on: '203.0.113.1', port: 80 });
  client = await lab.user(lab.clientSide, 0);
  agent = lab.startAgent(config);
  await agent.until(({ fish: status }) => status?.answered === 2, 'fish has not its leases');
  await agent.ready();
});
afterAll(() => lab.close());

describe('leases of fish on a real host', () => {
  it('are more before the ports toward one server run out, and no connection is refused', async () => {
    await connectUpTo(3);
    for (const [connections, ports] of [
      [4, 8],
      [7, 12],
      [10, 16],
    ] as const) {
      await connectUpTo(connections);
      await agent.until(
        ({ fish: status, lease_counts }) => status?.growth[0]?.ports === ports && lease_counts['up'] === ports / 4 + 1,
        `there are not ${ports} ports for ${connections} connections`,
      );
    }
    await connectUpTo(13);
    expect(await noPort()).toBe(0);
    await agent.until(
      ({ fish: status }) => status?.growth[0]?.problem?.includes('ports_max') ?? false,
      'it does not say that there can be no more',
    );
    expect((await leases()).filter(({ protocol }) => protocol === 'tcp')).toHaveLength(4);
  });

  it('say so at once to who finds no port, in a way that programs understand', async () => {
    await connectUpTo(16);
    expect(await client.connect('100.64.0.2', 11_000, '203.0.113.1', 80, 10_000)).toBe('ECONNREFUSED');
    expect(await noPort()).toBe(1);
    const { tcp_resets_sent: resets } = (await agent.status()).fish?.stats ?? {};
    expect(resets).toBe(1);
  });

  it('are drained and given back when they are not needed, those with connections last', async () => {
    const [kept = '', ...others] = sockets;
    for (const socket of others) await client.ask({ op: 'close', socket });
    await agent.until(
      ({ fish: status }) => (status?.growth[0]?.busiest ?? 99) <= 1,
      'the connections have not ended for fish',
      30_000,
    );
    // Its connection may be in any of the leases: what drains waits for it.
    await agent.until(({ fish: status }) => (status?.growth[0]?.leases ?? 9) <= 1, 'nothing was given back', 30_000);
    expect(await client.ask({ op: 'say', socket: kept, text: 'still here' })).toBe('said');
    await client.ask({ op: 'close', socket: kept });
    await agent.until(({ fish: status }) => status?.growth[0]?.leases === 0, 'it has too much still', 30_000);
    await expect.poll(async () => (await leases()).length, { timeout: 15_000 }).toBe(2);
    expect(await growth()).toMatchObject({ ports: 4, draining: 0, problem: null });
    sockets.length = 0;
    await connectUpTo(2);
  }, 90_000);
});
