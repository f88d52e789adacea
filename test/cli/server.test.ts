import { mkdtempSync, statSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { FisheryClient, FisheryError } from '../../src/sdk/index.ts';
import type { ServerProcess } from '../support/server-process.ts';
import { serverRuns } from '../support/server-runs.ts';

const test = serverRuns();
const { start, secret } = test;
const clientOf = async (run: ServerProcess) =>
  new FisheryClient({ url: await run.url(), token: secret(), attemptsMax: 1 });

/** A machine without an agent, one slice, and a session on it. */
async function furnish(client: FisheryClient): Promise<string> {
  await client.pools.create({ id: 'p', prefixes: ['198.51.100.0/28'] });
  await client.machines.create({ id: 'm', enforcement: 'none' });
  await client.machines.putHolder('m', 'h', { kind: 'proxy' });
  await client.slices.assign({ machine: 'm', pool: 'p', count: 8 });
  return (await client.sessions.open({ machine: 'm', holder: 'h', ttl_s: 600 })).id;
}

describe('a start', () => {
  it('fails at once where no data directory can be made', async () => {
    const run = test.run('--data-dir', '/proc/x', '--port', '0');
    expect(await run.ended).toBe(1);
    expect(run.err).toMatch(/^fishery server: the data directory \/proc\/x cannot be made: ENOENT/m);
  });

  it('that waits for a database which never answers ends when it is told to', async () => {
    const silent = createServer((socket) => void socket.on('error', () => {}));
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
    const asked = new Promise<Socket>((resolve) => silent.once('connection', resolve));
    const { port } = silent.address() as AddressInfo;
    const run = start('--database-url', `postgres://fishery@127.0.0.1:${port}/fishery`);
    const socket = await asked;
    run.child.kill('SIGTERM');
    const ended = await Promise.race([run.ended, new Promise((resolve) => setTimeout(resolve, 20_000, 'still there'))]);
    expect(ended).toBe(0);
    socket.destroy();
    silent.close();
  });
});

describe('fishery server', () => {
  it('tells where it listens, where the docs and the token are, and never the token', async () => {
    const run = start();
    const url = await run.url();
    await expect.poll(() => run.out).toContain(`docs        ${url}/docs`);
    await expect.poll(() => run.out).toContain(join(test.data, 'operator.token'));
    expect((statSync(join(test.data, 'operator.token')).mode & 0o777).toString(8)).toBe('600');
    expect((await fetch(`${url}/readyz`)).status).toBe(200);
    const client = await clientOf(run);
    expect((await client.pools.list()).items).toEqual([]);
    // The table is as old as it is.
    const { began_at, confirmed_at } = await client.server.epoch();
    expect(Math.abs(Date.parse(began_at) - Date.now())).toBeLessThan(60_000);
    expect(confirmed_at).toBe(began_at);
    expect(run.out + run.err).not.toContain(secret());
  });

  it.each([
    ['0.0.0.0', /^http:\/\/0\.0\.0\.0:\d+$/],
    ['::', /^http:\/\/\[::\]:\d+$/],
  ])('tells the address that it really listens on, %s, and that tokens are in clear there', async (host, address) => {
    const run = start('--host', host, '--allow-plain-http');
    const url = await run.url();
    expect(url).toMatch(address);
    await expect.poll(() => run.out).toMatch(/^caution .*without TLS in front, tokens cross the network in clear/m);
    expect((await fetch(`http://127.0.0.1:${new URL(url).port}/healthz`)).status).toBe(200);
  });

  it('does not warn of anything on a loopback address', async () => {
    const run = start();
    expect(await run.url()).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/);
    await expect.poll(() => run.out).toContain(join(test.data, 'operator.token'));
    expect(run.out).not.toContain('caution');
  });

  it('keeps everything over a restart, the token and the sessions included', async () => {
    const first = start();
    const before = await clientOf(first);
    const session = await furnish(before);
    const { leases } = await before.leases.grant({ session, claims: [{ protocol: 'tcp', ports: 64 }] });
    first.child.kill('SIGTERM');
    expect(await first.ended).toBe(0);

    const second = start();
    const after = await clientOf(second);
    expect(await after.leases.get(leases[0]?.id ?? '')).toEqual(leases[0]);
    expect((await after.sessions.keepalive(session)).state).toBe('live');
    await expect.poll(() => second.out).toContain("(the operator's)");
  });

  it('loses nothing that it answered when it is killed, and grants none of it again', async () => {
    const first = start();
    const client = await clientOf(first);
    const session = await furnish(client);
    const granted: string[] = [];
    const killing = new AbortController();
    const isUp = () => !killing.signal.aborted;
    const grant = async () => {
      while (isUp()) {
        try {
          const { leases } = await client.leases.grant({ session, claims: [{ protocol: 'tcp', ports: 1 }] });
          granted.push(...leases.map((lease) => `${lease.id} ${lease.address} ${lease.ports.first}`));
        } catch (error) {
          if (isUp() || !(error instanceof FisheryError)) throw error;
        }
      }
    };
    const load = Array.from({ length: 16 }, grant);
    await expect.poll(() => granted.length, { timeout: 10_000 }).toBeGreaterThan(200);
    killing.abort();
    first.child.kill('SIGKILL');
    await Promise.all(load);

    const after = await clientOf(start());
    const kept = new Set<string>();
    const places = new Set<string>();
    for (let cursor: string | undefined; ;) {
      const page = await after.leases.list({ limit: 1_000, ...(cursor === undefined ? {} : { cursor }) });
      for (const lease of page.items) {
        kept.add(`${lease.id} ${lease.address} ${lease.ports.first}`);
        expect(places.has(`${lease.address} ${lease.ports.first}`)).toBe(false);
        places.add(`${lease.address} ${lease.ports.first}`);
      }
      if (page.next === null) break;
      cursor = page.next;
    }
    expect(granted.filter((lease) => !kept.has(lease))).toEqual([]);
    const { leases } = await after.leases.grant({ session, claims: [{ protocol: 'tcp', ports: 1 }] });
    expect(places.has(`${leases[0]?.address} ${leases[0]?.ports.first}`)).toBe(false);
  });

  it('finishes what it is answering at SIGTERM and ends with 0', async () => {
    const run = start();
    const client = await clientOf(run);
    await client.pools.create({ id: 'p', prefixes: ['198.51.100.0/28'] });
    await client.machines.create({ id: 'm' });
    const watching = fetch(`${await run.url()}/v1/machines/m/watch`, {
      headers: { authorization: `Bearer ${secret()}` },
    });
    const stream = await watching;
    run.child.kill('SIGTERM');
    expect(await stream.text()).toContain('event: bookmark');
    expect(await run.ended).toBe(0);
    expect(run.err).toBe('');
  });

  it.each([
    [
      'a port that is taken',
      async () => {
        const other = start();
        const port = new URL(await other.url()).port;
        return ['--port', port, '--data-dir', join(test.folder, 'other')];
      },
      1,
      /^fishery server: port \d+ on 127\.0\.0\.1 is taken: .*$/m,
    ],
    [
      'a data directory that another server has',
      async () => {
        await start().url();
        return ['--port', '0', '--data-dir', test.data];
      },
      1,
      /^fishery server: another Fishery server is running on .*$/m,
    ],
    [
      'a data directory that cannot be',
      async () => {
        writeFileSync(join(test.folder, 'file'), '');
        return ['--port', '0', '--data-dir', join(test.folder, 'file', 'data')];
      },
      1,
      /^fishery server: the data directory .* cannot be made: .*$/m,
    ],
    [
      'a database that is none',
      async () => {
        const dir = mkdtempSync(join(test.folder, 'bad-'));
        writeFileSync(join(dir, 'fishery.db'), 'not a database'.repeat(1_000));
        return ['--port', '0', '--data-dir', dir];
      },
      1,
      /^fishery server: .*not a Fishery database.*$/m,
    ],
    [
      'a host that is not here',
      async () => ['--host', '203.0.113.250', '--allow-plain-http', '--data-dir', test.data],
      1,
      /^fishery server: 203\.0\.113\.250 is no address of this host.*$/m,
    ],
    [
      'an address that others can reach, without TLS',
      async () => ['--host', '0.0.0.0', '--data-dir', test.data],
      2,
      /^fishery server: --host: got "0\.0\.0\.0": others can reach this address, .* set tls_cert_file and tls_key_file, or allow_plain_http/m,
    ],
    [
      'a certificate without its key',
      async () => ['--tls-cert-file', join(test.folder, 'cert.pem')],
      2,
      /^fishery server: tls_key_file is required: set --tls-key-file, .*$/m,
    ],
    [
      'a certificate that is not there',
      async () => {
        const [cert, key] = [join(test.folder, 'cert.pem'), join(test.folder, 'key.pem')];
        return ['--data-dir', test.data, '--tls-cert-file', cert, '--tls-key-file', key];
      },
      1,
      /^fishery server: .*cert\.pem: cannot be read \(no such file\)$/m,
    ],
    ['a port that is none', async () => ['--port', '70000'], 2, /^fishery server: --port: got 70000, expected .*$/m],
  ])('says in one line what is wrong with %s', async (_what, prepare, code, line) => {
    const run = test.run(...(await prepare()));
    expect(await run.ended).toBe(code);
    expect(run.err).toMatch(line);
    expect(run.err.trim().split('\n')).toHaveLength(1);
  });
});
