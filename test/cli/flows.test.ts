import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { FishPort } from '../../src/agent/fish-port.ts';
import { serveStatus, socketName } from '../../src/agent/status-server.ts';
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
    topTalkers: async (by, max) => pond.forwarder.views.topTalkers(by, max),
    busyRemotes: async (max) => pond.forwarder.views.busyRemotes(max),
  },
};

let folder: string;
let stop: () => Promise<void>;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'fishery-flows-'));
  const served = await serveStatus(folder, { agent } as never);
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
    expect(out).toMatch(/^PROTOCOL +STATE +CLIENT/);
    expect(out).toContain('any');
    expect(out.trim().split('\n')).toHaveLength(2);
  });

  it.each([
    ['--state resting', 1],
    ['--remote 203.0.113.1', 3],
    ['--lease lease-3', 1],
    ['--remote 2001:db8:0:1::1', 1],
    ['--client 192.0.2.1', 0],
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
      { protocol: 'tcp', family: 4, remote: origin.address, remote_port: 443, used: 2, ports: 8, saturation: 0.25 },
      { protocol: 'tcp', family: 4, remote: origin.address, remote_port: 8_443, used: 1, ports: 8, saturation: 0.125 },
      { protocol: 'udp', family: 4, remote: null, remote_port: null, used: 1, ports: 8, saturation: 0.125 },
      { protocol: 'tcp', family: 6, remote: origin6.address, remote_port: 443, used: 1, ports: 8, saturation: 0.125 },
    ]);
    const { out } = await run('flows ports --limit 1');
    expect(out).toContain('25 %');
    expect(out.trim().split('\n')).toHaveLength(4);
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
    agent.fish = fish;
  });
});
