import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { spawn } from 'node:child_process';
import { connect } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FisheryClient, isFisheryError, type TlsFiles } from '../../src/sdk/index.ts';
import { root } from '../support/tree.ts';
import { Authority, type CertificateFiles } from '../support/certificates.ts';
import type { ServerProcess } from '../support/server-process.ts';
import { serverRuns } from '../support/server-runs.ts';

let ca: Authority;
let other: Authority;
let server: CertificateFiles;
let edge: CertificateFiles;
const test = serverRuns();
beforeAll(async () => {
  ca = await Authority.make();
  other = await Authority.make('strangers');
  server = await ca.issueServer();
  edge = await ca.issue('edge-1', { names: [{ type: 'dns', value: 'edge-1' }] });
});
afterAll(() => {
  ca[Symbol.dispose]();
  other[Symbol.dispose]();
});

const start = (...args: string[]): ServerProcess =>
  test.start('--tls-cert-file', server.cert, '--tls-key-file', server.key, ...args);
const mutual = (...args: string[]) => start('--tls-client-ca-file', ca.file, ...args);
const { secret } = test;
const clientOf = async (run: ServerProcess, tls: TlsFiles | undefined, token = secret) =>
  new FisheryClient({ url: await run.url(), token, attemptsMax: 1, tls });
const codeOf = async (call: Promise<unknown>): Promise<string> => {
  try {
    await call;
    return 'answered';
  } catch (error) {
    return isFisheryError(error) ? error.code : String(error);
  }
};
const trusting = () => ({ caFile: ca.file });
const identified = (own = edge) => ({ caFile: ca.file, certFile: own.cert, keyFile: own.key });

describe('a server with a certificate', () => {
  it('is reached by clients that trust its authority, and by no others', async () => {
    const run = start();
    expect(await run.url()).toMatch(/^https:\/\/127\.0\.0\.1:\d+$/);
    expect(run.out).toMatch(/Server listening at https:\/\/127/);
    expect(run.out).not.toContain('listening at http:');
    expect((await (await clientOf(run, trusting())).pools.list()).items).toEqual([]);
    for (const tls of [undefined, { caFile: other.file }]) {
      const client = await clientOf(run, tls);
      expect(await codeOf(client.pools.list())).toBe('untrusted');
    }
  });

  it('may listen where others can reach it, without a word of caution, and answers no plain HTTP there', async () => {
    const run = start('--host', '0.0.0.0');
    const { port } = new URL(await run.url());
    const client = new FisheryClient({ url: `https://127.0.0.1:${port}`, token: secret, tls: trusting() });
    expect((await client.pools.list()).items).toEqual([]);
    expect(run.out).not.toContain('caution');
    await expect(fetch(`http://127.0.0.1:${port}/healthz`)).rejects.toThrow();
  });

  it('speaks no version of TLS before 1.2', async () => {
    const { port } = new URL(await start().url());
    const negotiated = (maxVersion: 'TLSv1.1' | 'TLSv1.2') =>
      new Promise((resolve) => {
        const ciphers = 'DEFAULT@SECLEVEL=0';
        const socket = connect({
          port: Number(port),
          host: '127.0.0.1',
          ca: readFileSync(ca.file),
          maxVersion,
          ciphers,
        });
        socket.on('secureConnect', () => resolve(socket.getProtocol())).on('error', () => resolve('refused'));
        socket.on('close', () => socket.destroy());
      });
    expect([await negotiated('TLSv1.1'), await negotiated('TLSv1.2')]).toEqual(['refused', 'TLSv1.2']);
  });

  it('follows changes over it, and ends the stream at SIGTERM', async () => {
    const run = start();
    const client = await clientOf(run, trusting());
    await client.machines.create({ id: 'edge-1' });
    const stream = await client.agent.watch('edge-1', 0, new AbortController().signal);
    const text = new Response(stream).text();
    run.child.kill('SIGTERM');
    expect(await text).toContain('event: change');
    expect([await run.ended, run.err]).toEqual([0, '']);
  });

  it('is well to the health check of its container, also where it asks for certificates', async () => {
    const check = (port: string) =>
      new Promise((resolve) => {
        const env = { ...process.env, FISHERY_PORT: port, FISHERY_TLS_CERT_FILE: server.cert };
        spawn(process.execPath, [join(root, 'bin/healthcheck.mjs')], { env }).on('close', resolve);
      });
    for (const run of [start(), mutual('--data-dir', join(test.folder, 'other'))])
      expect(await check(new URL(await run.url()).port)).toBe(0);
    expect(await check('1')).toBe(1);
  });
});

describe('a renewed certificate', () => {
  const serialOf = (url: string): Promise<string> => {
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    const { hostname: host, port } = new URL(url);
    const socket = connect({ host, port: Number(port), ca: readFileSync(ca.file) }, () => {
      resolve(socket.getPeerCertificate().serialNumber);
      socket.destroy();
    });
    socket.on('error', reject);
    return promise;
  };

  it('is taken in at SIGHUP without a connection lost, and a broken one is not', async () => {
    const now = { cert: join(test.folder, 'now.pem'), key: join(test.folder, 'now.key') };
    const put = (from: CertificateFiles) => {
      copyFileSync(from.cert, now.cert);
      copyFileSync(from.key, now.key);
    };
    put(server);
    const run = start('--tls-cert-file', now.cert, '--tls-key-file', now.key);
    const url = await run.url();
    const client = await clientOf(run, trusting());
    await client.machines.create({ id: 'edge-1' });
    const stream = await client.agent.watch('edge-1', 0, new AbortController().signal);
    const before = await serialOf(url);

    put(await ca.issueServer('renewed'));
    run.child.kill('SIGHUP');
    await expect.poll(() => run.out).toContain('took in a new certificate');
    const after = await serialOf(url);
    expect(after).not.toBe(before);

    writeFileSync(now.cert, 'not a certificate');
    run.child.kill('SIGHUP');
    await expect.poll(() => run.out).toContain('holds no certificate');
    expect(await serialOf(url)).toBe(after);
    expect(stream.locked).toBe(false);
    run.child.kill('SIGTERM');
    expect(await new Response(stream).text()).toContain('event: change');
  });
});

describe('a server that asks every client for a certificate', () => {
  it('lets nobody in without one of its authority', async () => {
    const run = mutual();
    expect(await codeOf((await clientOf(run, identified())).pools.list())).toBe('answered');
    const stranger = await other.issue('edge-1');
    const ended = await ca.issue('ended', { until_ms: Date.now() - 1_000 });
    for (const tls of [trusting(), identified(stranger), identified(ended)]) {
      const client = await clientOf(run, tls);
      expect(['untrusted', 'connection_lost']).toContain(await codeOf(client.pools.list()));
    }
  });

  it('takes a client whose certificate was renewed while it runs', async () => {
    const run = mutual();
    const own = await ca.issue('short');
    const client = await clientOf(run, identified(own));
    expect(await codeOf(client.pools.list())).toBe('answered');
    await ca.issue('short');
    run.child.kill('SIGTERM');
    await run.ended;
    const again = mutual('--port', new URL(await run.url()).port);
    await again.url();
    expect(await codeOf(client.pools.list())).toBe('answered');
  });
});

describe('a server that asks agents for a certificate', () => {
  const agentToken = async (operator: FisheryClient, machine: string) => {
    await operator.machines.create({ id: machine });
    return (await operator.tokens.create({ name: `agent-${machine}`, role: 'agent', machine })).secret;
  };

  it('takes their tokens only with one, and operators without', async () => {
    const run = mutual('--tls-client-certificates', 'agents');
    const operator = await clientOf(run, trusting());
    const token = await agentToken(operator, 'edge-1');
    const desired = async (tls: TlsFiles) => codeOf((await clientOf(run, tls, () => token)).agent.desired('edge-1'));
    expect(await desired(trusting())).toBe('client_certificate_required');
    expect(await desired(identified(await other.issue('edge-1')))).toBe('client_certificate_required');
    expect(await desired(identified())).toBe('answered');
  });

  it('takes the token of a machine only from that machine, where it is told so', async () => {
    const run = mutual('--tls-client-certificates', 'agents', '--tls-name-machines');
    const operator = await clientOf(run, trusting());
    const [first, second] = [await agentToken(operator, 'edge-1'), await agentToken(operator, 'edge-2')];
    const desired = async (machine: string, token: string) =>
      codeOf((await clientOf(run, identified(), () => token)).agent.desired(machine));
    expect(await desired('edge-1', first)).toBe('answered');
    expect(await desired('edge-2', second)).toBe('client_certificate_required');
    expect((await operator.pools.list()).items).toEqual([]);
  });
});

describe('a client', () => {
  it('says at once what is wrong with its files', () => {
    const open = (tls: TlsFiles) => () => new FisheryClient({ url: 'https://127.0.0.1:1', token: 't', tls });
    expect(open({ certFile: edge.cert })).toThrow(/go together/);
    expect(open({ caFile: join(test.folder, 'none') })).toThrow(/none: cannot be read \(ENOENT\)/);
    expect(open({ certFile: edge.cert, keyFile: server.key })).toThrow(/cannot be used/);
  });

  it('goes on with a token that is rotated under it', async () => {
    const run = start();
    const operator = await clientOf(run, trusting());
    const { token, secret: old } = await operator.tokens.create({ name: 'ci', role: 'viewer' });
    let current = old;
    const client = await clientOf(run, trusting(), () => current);
    expect(await codeOf(client.pools.list())).toBe('answered');
    current = (await operator.tokens.rotate(token.id, { grace_s: 0 })).secret;
    expect(await codeOf(client.pools.list())).toBe('answered');
    expect(await codeOf((await clientOf(run, trusting(), () => old)).pools.list())).toBe('unauthenticated');
  });
});
