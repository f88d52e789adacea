import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { cutOff } from '../../src/agent/start/start-broker.ts';
import { isBrokers } from '../../src/broker/identifiers.ts';
import { peerOf, principalOfPeer } from '../../src/broker/peers.ts';
import { holder } from '../support/agent-values.ts';

const known = [holder('web', 2_001), { ...holder('lb', null), cgroup: 'system.slice/haproxy.service' }];
const asked = (uid: number, cgroup?: string) => {
  const found = principalOfPeer({ pid: 7, uid, gid: uid, cgroup }, 'edge', known);
  return found.ok ? `${found.value.role} ${found.value.holder ?? 'of all'}` : found.error;
};

describe('who a process is to the broker of its host', () => {
  it.each([
    ['the holder with its user id', 2_001, undefined, 'holder web'],
    ['the holder whose control group it is in', 900, 'system.slice/haproxy.service', 'holder lb'],
    ['the same, from a group below', 900, 'system.slice/haproxy.service/worker', 'holder lb'],
    ['the operator of the machine, as root', 0, undefined, 'operator of all'],
    ['nobody', 900, 'system.slice/haproxy.service-2', /user id 900, nor has its control group/],
    ['nobody, where its group cannot be told', 900, undefined, 'no holder of machine "edge" has user id 900'],
  ])('is %s', (_who, uid, cgroup, expected) => {
    if (typeof expected === 'string') expect(asked(uid, cgroup)).toBe(expected);
    else expect(asked(uid, cgroup)).toMatch(expected);
  });

  it('has request keys of its own, which no token of the server has, nor the same user as another holder', () => {
    const groups = [...known, { ...holder('cache', null), cgroup: 'system.slice/varnish.service' }];
    const keysOf = (uid: number, cgroup?: string) => {
      const found = principalOfPeer({ pid: 7, uid, gid: 0, cgroup }, 'edge', groups);
      return found.ok ? found.value.token : found.error;
    };
    const scopes = [
      keysOf(0),
      keysOf(2_001),
      keysOf(900, 'system.slice/haproxy.service'),
      keysOf(900, 'system.slice/varnish.service'),
      keysOf(901, 'system.slice/varnish.service'),
    ];
    expect(new Set(scopes).size).toBe(scopes.length);
    expect(scopes.every((scope) => Number.isSafeInteger(scope) && Number(scope) < 0)).toBe(true);
    expect(keysOf(900, 'system.slice/haproxy.service/worker')).toBe(scopes[2]);
  });
});

/** Connects, leaves the connection to a child, and goes when it is told to. */
const leaver = `
  const socket = require('node:net').connect(process.argv[1], () => {
    require('node:child_process').spawn('cat', [], { stdio: [socket, 'ignore', 'ignore'], detached: true }).unref();
    process.stdin.on('data', () => process.exit()).resume();
  });
`;

describe('the control group of whoever connected', () => {
  it('is asked for by its number while it lives, and counts no more when the number may be of another', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'fishery-peers-'));
    chmodSync(folder, 0o711);
    const path = join(folder, 'socket');
    const server = createServer({ pauseOnConnect: true }).listen(path);
    await once(server, 'listening');
    chmodSync(path, 0o666);
    const other = process.geteuid?.() === 0 ? { uid: 2_001, gid: 2_001 } : {};
    const child = spawn(process.execPath, ['-e', leaver, path], {
      stdio: ['pipe', 'ignore', 'inherit'],
      cwd: '/',
      ...other,
    });
    try {
      const [socket] = (await once(server, 'connection')) as [Socket];
      const asked: number[] = [];
      const cgroupOf = (pid: number) => {
        asked.push(pid);
        return 'system.slice/haproxy.service';
      };
      expect(peerOf(socket, cgroupOf)).toMatchObject({ pid: child.pid, cgroup: 'system.slice/haproxy.service' });
      child.stdin.write('go');
      await once(child, 'exit');
      const left = peerOf(socket, cgroupOf);
      expect(left).toMatchObject({ pid: child.pid, cgroup: undefined });
      expect(asked).toEqual([child.pid, child.pid]);
      socket.destroy();
    } finally {
      child.kill('SIGKILL');
      server.close();
      rmSync(folder, { recursive: true });
    }
  });
});

describe('a machine that is cut off', () => {
  it('says since when, or that the server never answered', () => {
    const guard = { isOpen: false, answeredMsAgo: 60_000, fence_s: 30 };
    expect(cutOff({ ...guard, isOpen: true }, 0)).toBeUndefined();
    expect(cutOff(guard, Date.parse('2026-01-31T14:01:00Z'))).toContain(
      'since 2026-01-31T14:00:00.000Z, for longer than the fence of 30 s',
    );
    expect(cutOff({ ...guard, answeredMsAgo: undefined }, 0)).toContain('since the agent of this machine started');
  });
});

describe('the number of a lease', () => {
  it('tells whose it is', () => {
    expect([isBrokers('lease-1795461755508671'), isBrokers('lease-42'), isBrokers('lease-1000000000042')]).toEqual([
      true,
      false,
      false,
    ]);
  });
});
