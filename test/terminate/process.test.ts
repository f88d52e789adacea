import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { connect as connectTo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { AF_INET, EADDRINUSE, EPERM, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_STREAM } from '../../src/sys/constants.ts';
import { libc } from '../../src/sys/libc.ts';
import { sockaddrOf } from '../../src/sys/sockaddr.ts';
import { localPortOf } from '../../src/sys/socket-options.ts';
import { connectTerminator, type TerminatorClient } from '../../src/terminate/client.ts';
import { runTerminator, type TerminatorPrivilege, type TerminatorProcess } from '../../src/terminate/process.ts';
import { hearing } from '../support/tcp-pair.ts';
import { terminateSettings, usableLease } from '../support/terminator-world.ts';

const EAFNOSUPPORT = 97;
const loopback = new Uint8Array([127, 0, 0, 1]);

let folder: string;
let path: string;
let became: number[];
/** Where it listens, as the kernel chose. */
let port: number;
const running: TerminatorProcess[] = [];
const clients: TerminatorClient[] = [];

/** A host without IPv6, and without root: an ordinary listener, and nobody becomes anybody. */
const host: TerminatorPrivilege = {
  listen(address) {
    if (address.length !== 4) return -EAFNOSUPPORT;
    const c = libc();
    const fd = c.socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    const at = sockaddrOf(loopback, 0);
    if (c.bind(fd, at, at.length) < 0 || c.listen(fd, 16) < 0) throw new Error(`errno ${c.errno()}`);
    port = localPortOf(fd);
    return fd;
  },
  become: (uid) => void became.push(uid),
};

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'fishery-terminator-'));
  path = join(folder, 'terminator.sock');
  became = [];
});
afterEach(() => {
  for (const client of clients.splice(0)) client.close();
  for (const each of running.splice(0)) each.stop();
  rmSync(folder, { recursive: true, force: true });
});

async function begin(on = host): Promise<TerminatorProcess> {
  const begun = await runTerminator({ path, port: 7_490, version: '1.2.3' }, on);
  running.push(begun);
  return begun;
}
async function agent(): Promise<TerminatorClient> {
  const there = await connectTerminator(path);
  if (!there.ok) throw new Error(there.error);
  clients.push(there.value);
  return there.value;
}
const settings = { ...terminateSettings, paths: { rules: [], otherwise: 'packet' as const } };
const told = { uid: 2_107, settings, leases: [usableLease('lease-1')] };

describe('the process of the terminator', () => {
  it('says who it is, waits to be told what to do, and becomes whom it is told, once', async () => {
    await begin();
    expect(statSync(path).mode & 0o777).toBe(0o600);
    const first = await agent();
    expect(first.hello).toMatchObject({ version: '1.2.3', pid: process.pid, port: 7_490, uid: null, log: null });
    await expect(first.ask('stats', { destinations: 1 })).rejects.toThrow('it has not been told anything yet');
    expect(await first.ask('fence', null)).toBe(0);
    const { log } = await first.ask('configure', told);
    expect(existsSync(log)).toBe(true);
    await first.ask('configure', { ...told, leases: [] });
    expect(became).toEqual([2_107]);
    await expect(first.ask('configure', { ...told, uid: 0 })).rejects.toThrow(
      'it is user 2107 for good, and is to be 0',
    );
    expect((await agent()).hello).toMatchObject({ uid: 2_107, log });
  });

  it('accepts nothing before that, and then what has waited, and what comes', async () => {
    await begin();
    const early = hearing(connectTo(port, '127.0.0.1'));
    const asking = await agent();
    await asking.ask('configure', told);
    await expect.poll(() => early).toMatchObject({ closed: true, error: 'ECONNRESET' });
    const late = hearing(connectTo(port, '127.0.0.1'));
    await expect.poll(() => late.error).toBe('ECONNRESET');
    expect(await asking.ask('stats', { destinations: 1 })).toMatchObject({ accepted: 2, not_chosen: 2, leases: 1 });
  });

  it('answers whatever can be asked, any number of askers, and goes on when they leave', async () => {
    await begin();
    const [one, other] = [await agent(), await agent()];
    await one.ask('configure', told);
    one.close();
    await one.gone;
    await expect(one.ask('portUse', null)).rejects.toThrow('gone');
    const query = { address: '198.51.100.10', port: 9_000, remote: null, remotePort: null, at: Date.now() * 1_000 };
    const answers = await Promise.all([
      other.ask('search', { query, max: 10 }),
      other.ask('connections', { filter: {}, max: 10 }),
      other.ask('talkers', { by: 'client', max: 10 }),
      other.ask('busiest', { max: 10 }),
      other.ask('destinations', { by: 'failures', filter: {}, max: 10 }),
      other.ask('portUse', null),
    ]);
    expect(answers).toMatchObject([
      { matches: [], truncated: false },
      { connections: [], truncated: false },
      [],
      [],
      { destinations: [], truncated: false },
      { leases: [{ lease: 'lease-1', flows: 0 }] },
    ]);
  });

  it('has no more connections than its log was made for', async () => {
    await begin();
    const asking = await agent();
    await asking.ask('configure', { ...told, settings: { ...settings, connections_max: 5 } });
    await asking.ask('configure', { ...told, settings: { ...settings, connections_max: 500 } });
    expect(await asking.ask('stats', { destinations: 1 })).toMatchObject({ connections_max: 5 });
  });

  it('hangs up on whoever speaks another language, and on nobody else', async () => {
    await begin();
    const asking = await agent();
    const stranger = connectTo(path);
    const { promise: closed, resolve } = Promise.withResolvers<undefined>();
    stranger
      .on('error', () => {})
      .on('close', () => resolve(undefined))
      .resume();
    stranger.write('GET / HTTP/1.1\r\n\r\n');
    await closed;
    expect(await asking.ask('fence', null)).toBe(0);
  });

  it('is one at a path', async () => {
    await begin();
    await expect(begin()).rejects.toThrow(`a terminator is at work at ${path} already`);
    expect(await (await agent()).ask('fence', null)).toBe(0);
  });

  it('ends when it is told to, and leaves nothing that answers', async () => {
    const { finished } = await begin();
    const asking = await agent();
    await asking.ask('configure', told);
    await asking.ask('stop', null);
    await finished;
    expect(existsSync(path)).toBe(false);
    const late = connectTo(port, '127.0.0.1');
    const [error] = (await once(late, 'error')) as [NodeJS.ErrnoException];
    expect(error.code).toBe('ECONNREFUSED');
  });

  it('ends also when it was never told anything', async () => {
    const begun = await begin();
    begun.stop();
    await begun.finished;
    expect(await connectTerminator(path)).toMatchObject({ ok: false });
  });
});

describe('it does not begin', () => {
  it.each([
    [
      'where its port is taken',
      (address: Uint8Array) => (address.length === 4 ? host.listen(loopback, 0, 1) : -EADDRINUSE),
    ],
    ['where the first port is taken', () => -EADDRINUSE],
    ['without the right to', () => -EPERM],
  ])('%s, and says so', async (_where, listen) => {
    await expect(begin({ ...host, listen })).rejects.toThrow(
      /port 7490 of \S+ cannot be listened on: E(ADDRINUSE|PERM)/,
    );
    expect(existsSync(path)).toBe(false);
  });
});

it('a user that it may not become is an answer, and it accepts nothing', async () => {
  const become = () => {
    throw new Error('it cannot become user 2107');
  };
  await begin({ ...host, become });
  const asking = await agent();
  await expect(asking.ask('configure', told)).rejects.toThrow('it cannot become user 2107');
  expect((await agent()).hello.uid).toBeNull();
});
