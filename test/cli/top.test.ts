import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { samplesOf } from '../../src/cli/output/prometheus.ts';
import { FisheryClient } from '../../src/sdk/index.ts';
import { fakeTerminal } from '../support/fake-terminal.ts';
import { RealServer } from '../support/real-server.ts';
import { runFishery } from '../support/run-fishery.ts';
import { problem, ScriptedServer } from '../support/scripted-server.ts';

let server: RealServer;
beforeAll(async () => {
  server = await RealServer.start();
  const { client } = server;
  await client.pools.create({ id: 'p', prefixes: ['198.51.100.0/30'], slice_ports: 1_024 });
  await client.pools.create({ id: 'q', prefixes: ['192.0.2.0/30'], slice_ports: 1_024 });
  await client.machines.create({ id: 'm', enforcement: 'none' });
  await client.machines.putHolder('m', 'h', { kind: 'proxy' });
  for (const pool of ['p', 'q']) await client.slices.assign({ machine: 'm', pool });
  await client.machines.create({ id: 'own' });
  await client.slices.assign({ machine: 'own', pool: 'q', allocator: 'machine' });
  const { secret } = await client.tokens.create({ name: 'own', role: 'agent', machine: 'own' });
  const as_of = new Date().toISOString().replace('Z', '000Z');
  await new FisheryClient({ url: server.url, token: secret }).agent.granted('own', {
    ...{ broker_epoch: 'e', after: 0, through: 0, as_of, snapshot: { page: 1, last: true, history_since: as_of } },
    ports: [
      { pool: 'q', family: 4, protocol: 'tcp', state: 'exclusive', ports: 200 },
      { pool: 'q', family: 4, protocol: 'tcp', state: 'free', ports: 824 },
    ],
  });
  const { id } = await client.sessions.open({ machine: 'm', holder: 'h', ttl_s: 600 });
  const claims = [
    { protocol: 'tcp' as const, ports: 512, pool: 'p' },
    { protocol: 'udp' as const, ports: 256, pool: 'p' },
    { protocol: 'tcp' as const, ports: 128, pool: 'q', mode: 'shared' as const },
  ];
  await client.leases.grant({ session: id, claims });
});
afterAll(() => server[Symbol.asyncDispose]());

const fishery = (line: string, terminal = fakeTerminal(), url = server.url) =>
  runFishery(line.split(' '), { env: { FISHERY_SERVER: url, FISHERY_TOKEN: server.secret }, terminal });

describe('fishery top', () => {
  it('adds up how the ports are used, the fullest first', async () => {
    const { code, out, err } = await fishery('top --frames 1');
    expect({ code, err }).toEqual({ code: 0, err: '' });
    expect(
      out
        .split('\n')
        .slice(2)
        .map((line) => line.replaceAll(/ +/g, ' ')),
    ).toEqual([
      'POOL USED PORTS EXCLUSIVE SHARED COOLING BLOCKED FREE MACHINE ALLOCATES OF THESE USED',
      'p #####............... 25 % 3072 768 0 0 0 2304 0 -',
      'q #................... 4.2 % 6144 0 128 0 0 2944 3072 200',
      '',
    ]);
    expect(out).toMatch(/^\S+Z {3}revision \d+ {3}changes\/s - {3}grants\/s - {3}refusals\/s - {3}watchers 0\n/);
  });

  it.each([
    ['machine', ['m', 'own']],
    ['protocol', ['tcp', 'udp', 'icmp']],
  ])('adds up by %s', async (by, names) => {
    const { out } = await fishery(`top --frames 1 --json --by ${by}`);
    const frame = z.object({ rows: z.array(z.object({ name: z.string(), ports: z.number() })) }).parse(JSON.parse(out));
    expect(frame.rows.map(({ name }) => name)).toEqual(names);
    expect(frame.rows.reduce((sum, { ports }) => sum + ports, 0)).toBe(9_216);
  });

  it('tells rates from the second look on', async () => {
    const lines = (await fishery('top --frames 2 --every-s 0.2 --json')).out.trimEnd().split('\n');
    const rates = lines.map((line) => z.object({ changes_per_s: z.number().nullable() }).parse(JSON.parse(line)));
    expect(rates.map(({ changes_per_s }) => changes_per_s)).toEqual([null, 0]);
  });

  it('redraws a screen, cut to its size, and gives it back', async () => {
    const terminal = fakeTerminal({ isScreen: true, columns: 30, rows: 4 });
    const { out } = await fishery('top --frames 2 --every-s 0.2', terminal);
    expect(out).toBe('');
    const [, first = ''] = terminal.written().split('\u001b[H');
    expect(terminal.written().startsWith('\u001b[?1049h\u001b[?25l\u001b[H')).toBe(true);
    expect(terminal.written().endsWith('\u001b[J\u001b[?25h\u001b[?1049l')).toBe(true);
    const lines = (first.split('\u001b[J')[0] ?? '').split('\r\n').filter(Boolean);
    expect(lines).toHaveLength(3);
    expect(lines.every((line) => line.replace('\u001b[K', '').length <= 30)).toBe(true);
  });

  it('gives the screen back also when it is interrupted, or the server refuses', async () => {
    const terminal = fakeTerminal({ isScreen: true });
    const running = fishery('top --every-s 60', terminal);
    await expect.poll(() => terminal.written()).toContain('POOL');
    terminal.signals.emit('SIGTERM');
    expect((await running).code).toBe(0);
    expect(terminal.written().endsWith('\u001b[?1049l')).toBe(true);
    await using refusing = await ScriptedServer.start(problem(403, 'forbidden'));
    const other = fakeTerminal({ isScreen: true });
    expect((await fishery('top', other, refusing.url)).code).toBe(5);
    expect(other.written().endsWith('\u001b[?1049l')).toBe(true);
  });
});

describe('fishery status', () => {
  it('says what the server is, and how its machines are', async () => {
    await server.client.machines.create({ id: 'new' });
    const { code, out } = await fishery('status --json');
    expect(code).toBe(0);
    expect(JSON.parse(out)).toMatchObject({
      status: 'ready',
      machines: 3,
      machine_states: { active: 3 },
      agents_never_seen: 2,
    });
  });

  it('says why a server that is there does not serve', async () => {
    await using ill = await ScriptedServer.start((request, response) => {
      if (request.path === '/readyz') problem(503, 'not_ready')(request, response);
      else
        response
          .writeHead(200, { 'content-type': 'application/json' })
          .end(JSON.stringify(request.path === '/v1/machines' ? { items: [], next: null } : { version: '1.2.3' }));
    });
    const { code, out } = await fishery('status', fakeTerminal(), ill.url);
    expect(code).toBe(6);
    expect(out).toMatch(/^status +not_ready\nreason +the detail of not_ready$/m);
  });
});

describe('the samples of a metrics page', () => {
  it('are read with their labels; comments and nonsense are passed over', () => {
    const page = `# HELP a b\n# TYPE a gauge\na 1\nb{x="1",y="a \\"b\\" \\\\ \\n c"} 2.5 1700000000\nc{le="+Inf"} +Inf\n} nonsense {\n`;
    expect(samplesOf(page)).toEqual([
      { name: 'a', labels: {}, value: 1 },
      { name: 'b', labels: { x: '1', y: 'a "b" \\ \n c' }, value: 2.5 },
      { name: 'c', labels: { le: '+Inf' }, value: Infinity },
    ]);
  });
});
