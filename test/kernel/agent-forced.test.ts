import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Lease } from '../../src/wire/leases.ts';
import { AgentLab, eventually, type AgentProcess } from './support/agent-lab.ts';
import { NamespaceProcess } from './support/sys-lab.ts';

const address = '198.51.100.10';
const uid = 2_001;
const origin = ['203.0.113.1', 80] as const;

let lab: AgentLab;
let agent: AgentProcess;
/** A program that opens sockets as it is told to, and keeps them whatever happens to them. */
let program: NamespaceProcess;

beforeAll(async () => {
  lab = await AgentLab.open('forced');
  const config = await lab.setUp();
  await lab.client.machines.putHolder('edge', 'web', { kind: 'proxy', uid });
  const far = await lab.user(lab.origin, 0);
  await far.ask({ op: 'echo', on: origin[0], port: origin[1] });
  agent = lab.startAgent(config);
  await agent.ready();
  program = await NamespaceProcess.start(lab.host);
  await program.call('become', uid);
});
afterAll(async () => {
  await program.stop();
  await lab.close();
});
afterEach(() => program.call('closeAll'));

async function lease(claim: object): Promise<Lease> {
  const session = await lab.client.sessions.open({ machine: 'edge', holder: 'web', ttl_s: 600 });
  const { leases } = await lab.client.leases.grant({ session: session.id, claims: [{ ports: 16, ...claim } as never] });
  const [granted] = leases;
  if (!granted) throw new Error('no lease');
  return granted;
}
const become = (id: string, wanted: string) =>
  eventually(
    async () => ((await lab.client.leases.get(id)).state === wanted ? true : undefined),
    () => `${id} is not ${wanted}\n${agent.output.slice(-2_000)}`,
  );
/** What sock_diag shows on a block, TIME_WAIT left out. */
const shown = ({ protocol, ports }: Lease) =>
  lab.shell(
    lab.host,
    `ss -Han ${protocol === 'udp' ? '-u' : '-t exclude time-wait'} '( sport >= ${ports.first} and sport <= ${ports.last} )'`,
  );

describe('a forced revoke', () => {
  it('cuts what took its port in connect(), and is over; TIME_WAIT keeps nobody waiting', async () => {
    const granted = await lease({ protocol: 'tcp', mode: 'shared', binding: 'late', ports: 128 });
    const { first, last } = granted.ports;
    const passing = await lab.user(lab.host, uid);
    const brief = await passing.ask({
      ...{ op: 'late', from: address, first, last, to: origin[0], toPort: origin[1], timeout_ms: 5_000 },
    });
    await passing.ask({ op: 'close', socket: brief });
    expect(await program.call('plain', { address, port: 0, late: [first, last], remote: origin, send: true })).toBe(
      'open',
    );
    expect(shown(granted)).toContain('ESTAB');
    expect(await lab.client.leases.revoke(granted.id, { forced: true })).toMatchObject({
      state: 'ending',
      forced: true,
    });
    await become(granted.id, 'ended');
    // The program still has its descriptor, and nothing behind it.
    expect(shown(granted)).toBe('');
  });

  it.each([
    ['an established connection', 8_192, { protocol: 'tcp', remote: origin, send: true }],
    ['a listener', 8_208, { protocol: 'tcp', listen: true }],
    ['a datagram socket', 8_192, { protocol: 'udp', remote: origin, send: true }],
  ] as const)(
    'cuts %s on a port that was taken by bind(), and waits for its program by name',
    async (_what, port, how) => {
      // Where nothing was before, and so nothing is in TIME_WAIT.
      const granted = await lease({ protocol: how.protocol, at: { address, first_port: port } });
      const socket = { ...how, address, port };
      expect(await program.call('plain', socket)).toBe('open');
      expect(shown(granted)).toMatch(/ESTAB|LISTEN/);
      await lab.client.leases.revoke(granted.id, { forced: true });
      await eventually(
        async () => (/ESTAB|LISTEN/.test(shown(granted)) ? undefined : true),
        () => shown(granted),
      );
      const pid = await program.call('ready');
      const told = new RegExp(`socket \\(bound\\).*\\[${pid}\\]`);
      await agent.until(
        ({ leases }) => leases.some((each) => each.lease === granted.id && told.test(each.detail ?? '')),
        'it does not say whom it waits for',
      );
      expect((await lab.client.leases.get(granted.id)).state).toBe('ending');
      await program.call('closeAll');
      await become(granted.id, 'ended');
    },
  );

  it('of what is ending by itself cuts what it waited for', async () => {
    const granted = await lease({ protocol: 'tcp', mode: 'shared', binding: 'late', ports: 128 });
    const { first, last } = granted.ports;
    await program.call('plain', { address, port: 0, late: [first, last], remote: origin, send: true });
    await lab.client.leases.revoke(granted.id);
    await agent.until(
      ({ leases }) => leases.some(({ detail }) => detail?.includes('established') ?? false),
      'it waits',
    );
    expect(shown(granted)).toContain('ESTAB');
    await lab.client.leases.revoke(granted.id, { forced: true });
    await become(granted.id, 'ended');
    expect(shown(granted)).toBe('');
  });

  it('of many cuts what its holder has there, and nothing of another lease of its own on the same block', async () => {
    const [one, other] = [
      await lease({ protocol: 'tcp', mode: 'shared', binding: 'late', ports: 128 }),
      await lease({ protocol: 'tcp' }),
    ];
    await program.call('plain', {
      address,
      port: 0,
      late: [one.ports.first, one.ports.last],
      remote: origin,
      send: true,
    });
    const port = other.ports.first + 1;
    await program.call('plain', { address, port, remote: origin, send: true });
    await lab.client.revocations.create({ session: one.session ?? '', forced: true });
    await become(one.id, 'ended');
    expect(shown(one)).toBe('');
    expect(shown(other)).toContain('ESTAB');
    expect((await lab.client.leases.get(other.id)).state).toBe('active');
  });
});
