import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { answerOf } from '../../src/fish/log/walk.ts';
import type { FishPort } from '../../src/agent/fish/fish-port.ts';
import type { TerminatorViews } from '../../src/agent/terminator-on-host.ts';
import {
  busyDestinations,
  listConnections,
  topConnections,
  type ConnectionSnapshot,
} from '../../src/terminate/connection-views.ts';
import { Destinations } from '../../src/terminate/destinations.ts';
import { serveStatus, socketName } from '../../src/agent/status/status-server.ts';
import { block, client, client6, connect, finish, origin, origin6, Pond } from '../support/fish.ts';
import { containing } from '../support/matchers.ts';
import { tcp, udp } from '../support/packets.ts';
import { runFishery } from '../support/run-fishery.ts';

const other = { address: '100.96.0.9', port: 50_000 };
const dns = { address: '203.0.113.53', port: 53 };
const pond = new Pond([
  block('198.51.100.10', 'tcp', 9_088, 9_095, { lease: 'lease-1' }),
  block('198.51.100.10', 'udp', 9_088, 9_095, { lease: 'lease-2' }),
  block('2001:db8:1::10', 'tcp', 9_088, 9_095, { lease: 'lease-3' }),
]);
const agent: { fish: Pick<FishPort, 'holder' | 'flows' | 'topTalkers' | 'busyRemotes'> | undefined } = {
  fish: {
    holder: 'fish',
    flows: async (filter, max) => {
      const flows = [...pond.forwarder.flows(filter)];
      return { flows: flows.slice(0, max), truncated: flows.length > max };
    },
    topTalkers: async (by, max) => answerOf(pond.forwarder.views.topTalkers(by, max)),
    busyRemotes: async (max) => pond.forwarder.views.busyRemotes(max),
  },
};

const carried: ConnectionSnapshot[] = [];
const ports = { 4: 128, 6: 0 };
const reached = new Destinations(10);
const views: TerminatorViews = {
  holder: 'terminator',
  connections: async (filter, max) => listConnections(carried, filter, max),
  talkers: async (by, max) => topConnections(carried, by, max),
  busiest: async (max) => busyDestinations(carried, ports, max),
  destinations: async (by, filter, max) => reached.list(by, filter, max),
};
const terminator: { views: TerminatorViews | undefined } = { views: undefined };

let folder: string;
let stop: () => Promise<void>;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'fishery-flows-'));
  const served = await serveStatus(folder, { agent, terminator } as never);
  if (!served.ok) throw new Error(served.error);
  stop = served.value;
  connect(pond, client, origin);
  const over = connect(pond, { ...client, port: 40_001 }, origin);
  finish(pond, { ...client, port: 40_001 }, origin, over);
  connect(pond, client6, origin6);
  for (let i = 0; i < 3; i++) pond.send(udp(other, dns, { data: new Uint8Array(1_000) }));
  pond.send(tcp(other, { ...origin, port: 8_443 }, 'S'));
});
afterAll(async () => {
  await stop();
  rmSync(folder, { recursive: true, force: true });
});

const run = (line: string) => runFishery([...line.split(' '), '--socket', join(folder, socketName)], { env: {} });
const json = async (line: string): Promise<Record<string, unknown>> => {
  const { code, out, err } = await run(`${line} --json`);
  expect({ code, err }).toEqual({ code: 0, err: '' });
  return JSON.parse(out) as Record<string, unknown>;
};

describe('fishery flows list', () => {
  it('shows each flow with its client, its leased port, its remote, and what has passed', async () => {
    const { flows } = await json('flows list --client 100.96.0.2 --state live');
    expect(flows).toEqual([
      {
        ...{ path: 'packet', holder: 'fish' },
        ...{ protocol: 'tcp', state: 'live', lease: 'lease-1', client: client.address, client_port: client.port },
        ...{
          address: '198.51.100.10',
          port: expect.any(Number) as number,
          remote: origin.address,
          remote_port: origin.port,
        },
        ...{ opened_at: containing('2026-'), placeholder: false },
        ...{ packets_out: 2, bytes_out: 80, packets_in: 1, bytes_in: 40 },
      },
    ]);
    const { out } = await run('flows list --protocol udp');
    expect(out).toContain('udp');
    expect(out).toMatch(/^PATH +PROTOCOL +STATE +CLIENT/);
    expect(out).toContain('any');
    expect(out.trim().split('\n')).toHaveLength(2);
  });

  it.each([
    ['--state resting', 1],
    ['--remote 203.0.113.1', 3],
    ['--lease lease-3', 1],
    ['--remote 2001:db8:0:1::1', 1],
    ['--client 192.0.2.1', 0],
    ['--remote-port 8443', 1],
    ['--holder fish --protocol tcp --remote 203.0.113.1', 3],
    ['--holder web', 0],
  ])('by %s', async (filter, count) => {
    expect((await json(`flows list ${filter}`))['flows']).toHaveLength(count);
  });

  it('says that there are more than it shows', async () => {
    const { out, err } = await run('flows list --limit 2');
    expect(out.trim().split('\n')).toHaveLength(3);
    expect(err).toContain('there are more');
  });
});

describe('fishery flows top', () => {
  it('adds up by client, most bytes first', async () => {
    const { talkers } = await json('flows top');
    expect(talkers).toMatchObject([
      { name: other.address, flows: 2, packets_out: 4, bytes_out: 3 * 1_028 + 40, packets_in: 0, bytes_in: 0 },
      { name: client.address, flows: 2 },
      { name: client6.address, flows: 1, packets_out: 2, packets_in: 1 },
    ]);
  });

  it('adds up by lease and by remote', async () => {
    expect((await json('flows top --by lease --limit 1'))['talkers']).toMatchObject([{ name: 'lease-2', flows: 1 }]);
    const { talkers } = await json('flows top --by remote');
    expect(talkers).toMatchObject([{ name: 'any', flows: 1 }, { name: origin.address, flows: 3 }, { flows: 1 }]);
  });
});

describe('fishery flows ports', () => {
  it('says toward which remotes the ports of a protocol run out', async () => {
    const { remotes } = await json('flows ports');
    expect(remotes).toEqual([
      {
        path: 'packet',
        protocol: 'tcp',
        family: 4,
        remote: origin.address,
        remote_port: 443,
        used: 2,
        ports: 8,
        saturation: 0.25,
      },
      {
        path: 'packet',
        protocol: 'tcp',
        family: 4,
        remote: origin.address,
        remote_port: 8_443,
        used: 1,
        ports: 8,
        saturation: 0.125,
      },
      {
        path: 'packet',
        protocol: 'udp',
        family: 4,
        remote: null,
        remote_port: null,
        used: 1,
        ports: 8,
        saturation: 0.125,
      },
      {
        path: 'packet',
        protocol: 'tcp',
        family: 6,
        remote: origin6.address,
        remote_port: 443,
        used: 1,
        ports: 8,
        saturation: 0.125,
      },
    ]);
    const { out } = await run('flows ports --limit 1');
    expect(out).toContain('25 %');
    expect(out.trim().split('\n')).toHaveLength(4);
  });
});

describe('the connections of a terminator', () => {
  const connection = (port: number, over: Partial<ConnectionSnapshot> = {}): ConnectionSnapshot => ({
    ...{
      lease: 'lease-7',
      client: client.address as never,
      clientPort: 40_000 + port,
      address: '198.51.100.10' as never,
    },
    ...{ port, remote: origin.address as never, remotePort: 443, openedAt: 1_700_000_000_000_000 },
    ...{ bytesOut: 10, bytesIn: 20 },
    ...over,
  });
  beforeAll(() => {
    terminator.views = views;
    const large = { client: '100.96.0.77' as never, bytesIn: 1_000_000, remotePort: 8_443 };
    carried.push(connection(9_200), connection(9_201), connection(9_202, large));
  });
  afterAll(() => {
    terminator.views = undefined;
  });

  it('are listed beside flows, told apart by path, with bytes and no packets', async () => {
    const { paths, flows } = await json('flows list --path terminate --client 100.96.0.2');
    expect(paths).toEqual(['terminate']);
    expect(flows).toEqual(
      [9_200, 9_201].map((port) => ({
        ...{ path: 'terminate', holder: 'terminator', protocol: 'tcp', state: 'live', lease: 'lease-7' },
        ...{
          client: client.address,
          client_port: 40_000 + port,
          address: '198.51.100.10',
          port,
          remote: origin.address,
        },
        ...{ remote_port: 443, opened_at: '2023-11-14T22:13:20.000000Z', placeholder: false },
        ...{ packets_out: null, bytes_out: 10, packets_in: null, bytes_in: 20 },
      })),
    );
    const both = await json('flows list --client 100.96.0.2');
    expect(both['paths']).toEqual(['packet', 'terminate']);
    const pathsOf = (rows: unknown) => (rows as { path: string }[]).map((row) => row.path);
    expect(new Set(pathsOf(both['flows']))).toEqual(new Set(['packet', 'terminate']));
    expect(pathsOf((await json('flows list --path packet'))['flows'])).not.toContain('terminate');
    for (const none of ['--protocol udp', '--state resting'])
      expect(pathsOf((await json(`flows list ${none}`))['flows'])).not.toContain('terminate');
    expect((await json('flows list --lease lease-7 --limit 2'))['truncated']).toBe(true);
  });

  it('are among who sends most, and toward which remotes ports run out', async () => {
    expect((await json('flows top'))['talkers']).toMatchObject([
      { path: 'terminate', name: '100.96.0.77', flows: 1, packets_in: null, bytes_in: 1_000_000 },
      { path: 'packet' },
      { path: 'packet' },
      { path: 'packet' },
      { path: 'terminate', name: client.address, flows: 2, bytes_out: 20, bytes_in: 40 },
    ]);
    expect((await json('flows ports --path terminate'))['remotes']).toEqual([
      {
        ...{ path: 'terminate', protocol: 'tcp', family: 4, remote: origin.address, remote_port: 443 },
        ...{ used: 2, ports: 128, saturation: 0.016 },
      },
      {
        ...{ path: 'terminate', protocol: 'tcp', family: 4, remote: origin.address, remote_port: 8_443 },
        ...{ used: 1, ports: 128, saturation: 0.008 },
      },
    ]);
  });
});

describe('fishery flows origins', () => {
  beforeAll(() => {
    terminator.views = views;
    const at = Date.UTC(2026, 1, 3);
    for (const seconds of [0.01, 0.03]) reached.note(origin.address, 443, { outcome: 'connected', seconds, at });
    const problem = 'connect ECONNREFUSED';
    reached.note('2001:db8:f::1', 25, { outcome: 'refused', seconds: 0.1, at, problem });
  });
  afterAll(() => {
    terminator.views = undefined;
  });

  it('tells what became of attempts to reach them, those first where most goes wrong', async () => {
    const { origins, connect_classes_s, truncated } = await json('flows origins');
    expect(connect_classes_s).toContain(0.02);
    expect(truncated).toBe(false);
    expect(origins).toMatchObject([
      {
        ...{ path: 'terminate', remote: '2001:db8:f::1', remote_port: 25, connected: 0, refused: 1 },
        ...{ connect_mean_s: null, connect_max_s: null, last_connected_at: null },
        ...{ last_problem: 'connect ECONNREFUSED', last_problem_at: '2026-02-03T00:00:00.000Z' },
      },
      {
        ...{ remote: origin.address, remote_port: 443, connected: 2, refused: 0, connect_mean_s: 0.02 },
        ...{ connect_max_s: 0.03, last_problem: null, last_connected_at: '2026-02-03T00:00:00.000Z' },
        connect_counts: [0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0],
      },
    ]);
    const { out } = await run('flows origins');
    expect(out).toMatch(/ORIGIN +CONNECTED +REFUSED +TIMED OUT +UNREACHABLE +FAILED +MEAN +LONGEST/);
    expect(out).toMatch(/:443 +2 +0 +0 +0 +0 +20 ms +30 ms/);
  });

  it('in another order, of one origin, and so many', async () => {
    const first = async (flags: string) => {
      const { origins, truncated } = await json(`flows origins ${flags}`);
      return [(origins as { remote: string }[]).map(({ remote }) => remote), truncated];
    };
    expect(await first('--by connect_time --limit 1')).toEqual([[origin.address], true]);
    expect(await first('--by attempts')).toEqual([[origin.address, '2001:db8:f::1'], false]);
    expect(await first('--remote 2001:db8:f::1')).toEqual([['2001:db8:f::1'], false]);
    expect(await first('--remote-port 443')).toEqual([[origin.address], false]);
    expect(await run('flows origins --remote-port 444')).toMatchObject({ code: 0, out: 'no origin was asked for\n' });
  });
});

describe('what cannot be answered', () => {
  it('is a line, and an exit code', async () => {
    const nowhere = await runFishery(['flows', 'top', '--socket', join(folder, 'nothing')], { env: {} });
    expect(nowhere).toMatchObject({ code: 6, out: '' });
    expect(nowhere.err).toContain('no agent answers at');
    expect(await run('flows list --client nobody')).toMatchObject({ code: 2, out: '' });
    const { fish } = agent;
    agent.fish = undefined;
    expect(await run('flows list')).toMatchObject({ code: 6, err: containing('fish does not run') });
    expect(await run('flows top --path terminate')).toMatchObject({
      code: 6,
      err: containing('the terminator does not run'),
    });
    expect(await run('flows origins')).toMatchObject({ code: 6, err: containing('the terminator does not run') });
    agent.fish = fish;
  });
});
