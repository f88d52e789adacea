import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AgentLab, bin, eventually, type AgentProcess } from './support/agent-lab.ts';

const address = '198.51.100.10';
const uid = 2_001;

let lab: AgentLab;
let agent: AgentProcess;

beforeAll(async () => {
  lab = await AgentLab.open('haproxy');
  const config = await lab.setUp();
  await lab.client.machines.putHolder('edge', 'haproxy', { kind: 'proxy', uid });
  const { secret } = await lab.client.tokens.create({
    ...{ name: 'haproxy', role: 'holder', machine: 'edge', holder: 'haproxy' },
  });
  writeFileSync(join(lab.folder, 'haproxy.token'), secret);
  // The proxy's user has to find its token and its configuration.
  chmodSync(lab.folder, 0o755);
  const origin = await lab.user(lab.origin, 0);
  await origin.ask({ op: 'echo', on: '203.0.113.1', port: 80 });
  agent = lab.startAgent(config);
  await agent.ready();
});
afterAll(() => lab.close());

/** As in docs/hold.md. */
const config = `
global
  maxconn 100
defaults
  mode tcp
  timeout connect 5s
  timeout client 30s
  timeout server 30s
frontend in
  bind 127.0.0.1:8080
  default_backend out
backend out
  server origin 203.0.113.1:80 source "\${FISHERY_ADDRESS}:\${FISHERY_PORTS}"
`;

describe('HAProxy under hold', () => {
  it('connects from the ports that it was handed and from no other, and goes with hold when that is killed', async () => {
    const file = join(lab.folder, 'haproxy.cfg');
    writeFileSync(file, config);
    const hold = lab.spawn(lab.host, [
      ...['setpriv', `--reuid=${uid}`, '--clear-groups', process.execPath, bin, 'hold'],
      ...['--server', lab.serverUrl, '--token-file', join(lab.folder, 'haproxy.token')],
      ...['--machine', 'edge', '--holder', 'haproxy', '--ttl-s', '5', '--grace-s', '2'],
      ...['--claim', 'protocol=tcp,mode=shared,binding=explicit,ports=8,family=4'],
      ...['--', 'haproxy', '-db', '-f', file],
    ]);
    let said = '';
    hold.stderr?.on('data', (chunk: Buffer) => (said += chunk.toString()));
    const lease = await eventually(
      async () => (await lab.client.leases.list({ machine: 'edge', state: 'active' })).items[0],
      () => said,
    );
    const capture = await lab.capture(lab.origin, 'o0', 'tcp and dst port 80');
    const client = await lab.user(lab.host, 0);
    const sockets: string[] = [];
    for (let i = 0; i < 4; i++)
      sockets.push(
        await eventually(
          async () => {
            const socket = await client.connect('127.0.0.1', 0, '127.0.0.1', 8_080);
            return socket.startsWith('socket-') ? socket : undefined;
          },
          () => said,
        ),
      );
    for (const socket of sockets) {
      await client.ask({ op: 'say', socket, text: 'through' });
      await eventually(
        async () => ((await client.ask({ op: 'heard', socket })).includes('through') ? true : undefined),
        () => `no echo\n${said}`,
      );
    }
    const ports = new Set(
      (await capture.stop()).flatMap((line) => {
        const [, source, port] = /IP (\S+)\.(\d+) > 203\.0\.113\.1\.80:/.exec(line) ?? [];
        expect(source).toBe(address);
        return port === undefined ? [] : [Number(port)];
      }),
    );
    expect(ports.size).toBe(4);
    for (const port of ports) expect(port >= lease.ports.first && port <= lease.ports.last).toBe(true);
    expect((await agent.status()).counters.guard_uid?.packets).toBe(0);

    expect(lab.processes().some((line) => line.startsWith('haproxy '))).toBe(true);
    hold.kill('SIGKILL');
    await eventually(
      () => (lab.processes().some((line) => line.startsWith('haproxy ')) ? undefined : true),
      () => 'haproxy outlives its hold',
    );
    await eventually(
      async () => ((await lab.client.leases.get(lease.id)).state === 'ended' ? true : undefined),
      () => agent.output.slice(-2_000),
      30_000,
    );
  }, 90_000);
});
