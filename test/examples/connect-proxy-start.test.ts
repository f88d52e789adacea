import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readSettings } from '../../examples/connect-proxy/settings.ts';
import { problem, ScriptedServer } from '../support/scripted-server.ts';
import { ScriptedSession } from '../support/scripted-session.ts';

const program = fileURLToPath(new URL('../../examples/connect-proxy/main.ts', import.meta.url));

describe('the CONNECT proxy as a program', () => {
  let folder: string;
  let tokenFile: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'fishery-connect-proxy-'));
    tokenFile = join(folder, 'token');
    writeFileSync(tokenFile, 'secret\n');
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  async function start(session: ScriptedSession, flags: readonly string[] = []) {
    const server = await ScriptedServer.start(session.answer);
    const common = ['--server', server.url, '--token-file', tokenFile, '--machine', 'm', '--listen', '127.0.0.1:0'];
    const child = spawn(process.execPath, [program, ...common, ...flags], { stdio: ['ignore', 'pipe', 'pipe'] });
    let said = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (data: Buffer) => (said += data.toString()));
    const exitCode = new Promise<number | null>((done) => child.on('close', done));
    return { server, child, exitCode, said: () => said };
  }

  it('takes a shared lease that is bound late, and gives it back when it is asked to stop', async () => {
    const session = new ScriptedSession();
    const { server, child, exitCode, said } = await start(session, ['--ports', '64']);
    await using _ = server;
    await expect.poll(said, { timeout: 10_000 }).toContain('leaves from 198.51.100.10:9000-9127 (lease-42)');
    child.kill('SIGTERM');
    expect(await exitCode).toBe(0);
    expect(session.ended).toBe(1);
    expect(server.seen.find(({ method, path }) => method === 'POST' && path === '/v1/leases')?.body).toEqual({
      session: 'session-40',
      claims: [{ protocol: 'tcp', mode: 'shared', binding: 'late', ports: 64 }],
    });
  });

  it('ends with 75 when its lease is revoked', async () => {
    const session = new ScriptedSession();
    const { server, exitCode, said } = await start(session, ['--ttl-s', '2']);
    await using _ = server;
    await expect.poll(said, { timeout: 10_000 }).toContain('ready');
    session.leaseState = 'ending';
    session.leaseEnding = 'revoked';
    expect(await exitCode).toBe(75);
    expect(said()).toContain('stopping: lease-42 is revoked');
  });

  it('ends with 1 and without a session when there is no lease to be had', async () => {
    const session = new ScriptedSession();
    session.grant = problem(409, 'no_ports');
    const { server, exitCode, said } = await start(session);
    await using _ = server;
    expect(await exitCode).toBe(1);
    expect(said()).toContain('no_ports');
    expect(session.ended).toBe(1);
  });

  it('ends with 2 and says how it is called when a setting is wrong', async () => {
    const { server, exitCode, said } = await start(new ScriptedSession(), ['--ports', 'many']);
    await using _ = server;
    expect(await exitCode).toBe(2);
    expect(said()).toContain('--ports: expected a whole number from 1 on, got "many"');
    expect(said()).toContain('connect-proxy: --server');
    expect(server.seen).toEqual([]);
  });

  it('reads flags, else the environment, else defaults', () => {
    const env = { CONNECT_PROXY_TOKEN_FILE: tokenFile, CONNECT_PROXY_MACHINE: 'edge-1', CONNECT_PROXY_PORTS: '16' };
    expect(readSettings(['--ports', '32', '--listen', '[::1]:3129'], env)).toEqual({
      server: 'http://127.0.0.1:7480',
      token: 'secret',
      machine: 'edge-1',
      holder: 'connect-proxy',
      ports: 32,
      ttl_s: 30,
      listen: { host: '::1', port: 3129 },
      connect_timeout_s: 10,
      idle_s: 300,
      tunnels_max: 1000,
    });
    expect(() => readSettings([], {})).toThrow('--token-file is required');
    expect(() => readSettings(['--listen', '3128'], env)).toThrow('--listen: expected host:port');
    expect(() => readSettings(['--wrong'], env)).toThrow("Unknown option '--wrong'");
  });
});
