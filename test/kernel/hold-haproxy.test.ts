import { chmodSync, chownSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AgentLab, bin, eventually, type AgentProcess } from './support/agent-lab.ts';

const address = '198.51.100.10';
const uid = 2_001;

let lab: AgentLab;
let agent: AgentProcess;

beforeAll(async () => {
  lab = await AgentLab.open('haproxy');
  const config = await lab.setUp({ settings: { manage_port_range: false } });
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

/** Runs a program under hold as the holder's user, with one claim; `said` is what both write. */
function hold(claim: string, ...program: readonly string[]) {
  const child = lab.spawn(lab.host, [
    ...['setpriv', `--reuid=${uid}`, '--clear-groups', process.execPath, bin, 'hold'],
    ...['--server', lab.serverUrl, '--token-file', join(lab.folder, 'haproxy.token')],
    ...['--machine', 'edge', '--holder', 'haproxy', '--ttl-s', '5', '--grace-s', '2'],
    ...['--claim', `protocol=tcp,mode=shared,ports=8,family=4,${claim}`, '--', ...program],
  ]);
  let text = '';
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk: Buffer) => (text += chunk.toString()));
  return { child, said: () => text };
}

const leaseOf = (said: () => string) =>
  eventually(async () => (await lab.client.leases.list({ machine: 'edge', state: 'active' })).items[0], said);

/** Has what listens on a local port pass four connections on at once, and returns the ports that the origin sees. */
async function portsThrough(port: number, said: () => string): Promise<ReadonlySet<number>> {
  const capture = await lab.capture(lab.origin, 'o0', 'tcp and dst port 80');
  const client = await lab.user(lab.host, 0);
  const sockets: string[] = [];
  for (let i = 0; i < 4; i++)
    sockets.push(
      await eventually(async () => {
        const socket = await client.connect('127.0.0.1', 0, '127.0.0.1', port);
        return socket.startsWith('socket-') ? socket : undefined;
      }, said),
    );
  for (const socket of sockets) {
    await client.ask({ op: 'say', socket, text: 'through' });
    await eventually(
      async () => ((await client.ask({ op: 'heard', socket })).includes('through') ? true : undefined),
      () => `no echo\n${said()}`,
    );
  }
  const lines = await capture.stop();
  await client.kill();
  return new Set(
    lines.flatMap((line) => {
      const [, source, from] = /IP (\S+)\.(\d+) > 203\.0\.113\.1\.80:/.exec(line) ?? [];
      expect(source).toBe(address);
      return from === undefined ? [] : [Number(from)];
    }),
  );
}

const isRunning = (name: string) => lab.processes().some((line) => line.startsWith(name));
const untilGone = (name: string) =>
  eventually(
    () => (isRunning(name) ? undefined : true),
    () => `${name} outlives its hold`,
  );
const untilEnded = (lease: string) =>
  eventually(
    async () => ((await lab.client.leases.get(lease)).state === 'ended' ? true : undefined),
    () => agent.output.slice(-2_000),
    30_000,
  );

/** As in docs/hold.md. */
const haproxyConfig = `
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
    writeFileSync(file, haproxyConfig);
    const { child, said } = hold('binding=explicit', 'haproxy', '-db', '-f', file);
    const lease = await leaseOf(said);
    const ports = await portsThrough(8_080, said);
    expect(ports.size).toBe(4);
    for (const port of ports) expect(port >= lease.ports.first && port <= lease.ports.last).toBe(true);
    expect((await agent.status()).counters.guard_uid?.packets).toBe(0);
    expect(isRunning('haproxy ')).toBe(true);
    child.kill('SIGKILL');
    await untilGone('haproxy ');
    await untilEnded(lease.id);
  }, 90_000);
});

/** As in docs/hold.md. */
const nginxConfig = (pidFile: string) => `
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
worker_processes 2;
pid ${pidFile};
error_log stderr notice;
events {}
stream {
  server {
    listen 127.0.0.1:8081;
    proxy_bind @FISHERY_ADDRESS@;
    proxy_pass 203.0.113.1:80;
  }
}
`;

describe('nginx under hold', () => {
  it('connects from the ports of its lease, where they are the range of the namespace, and ends when it is told to', async () => {
    const template = join(lab.folder, 'nginx.conf.in');
    // What a user of its own may write.
    const own = join(lab.folder, 'nginx');
    mkdirSync(own);
    chownSync(own, uid, uid);
    const file = join(own, 'nginx.conf');
    writeFileSync(template, nginxConfig(join(own, 'nginx.pid')));
    const fill = `sed "s/@FISHERY_ADDRESS@/$FISHERY_ADDRESS/" '${template}' > '${file}'`;
    const { child, said } = hold(
      'binding=late',
      ...['sh', '-c', `${fill} && exec nginx -e stderr -g 'daemon off;' -c '${file}'`],
    );
    const lease = await leaseOf(said);
    const { first, last } = lease.ports;
    const range = 'net.ipv4.ip_local_port_range';
    const before = lab.shell(lab.host, `sysctl -n ${range}`);
    lab.shell(lab.host, `sysctl -qw ${range}="${first} ${last}"`);
    try {
      const ports = await portsThrough(8_081, said);
      expect(ports.size).toBe(4);
      for (const port of ports) expect(port >= first && port <= last).toBe(true);
      expect((await agent.status()).counters.guard_uid?.packets).toBe(0);
    } finally {
      lab.shell(lab.host, `sysctl -qw ${range}="${before}"`);
    }
    child.kill('SIGTERM');
    await untilGone('nginx: ');
    await untilEnded(lease.id);
  }, 90_000);
});
