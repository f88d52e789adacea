import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { BrokerWorld, ownUid, until } from '../support/broker-world.ts';

/** Asks for the longest answer that there is, on fifty connections at once, reads nothing, and comes again when it is cut. */
const flood = `
  const { connect } = require('node:net');
  const [path, deep] = process.argv.slice(1);
  const asked = 'GET /openapi.json HTTP/1.1\\r\\nHost: broker\\r\\n\\r\\n'.repeat(Number(deep));
  let cut = 0;
  const come = () => {
    const socket = connect(path, () => socket.write(asked)).pause();
    socket.on('error', () => {});
    socket.on('close', () => {
      if (++cut % 50 === 0) console.log(cut);
      setTimeout(come, 1);
    });
    socket.on('drain', () => socket.write(asked));
    setTimeout(() => socket.resume(), 500);
  };
  for (let i = 0; i < 50; i++) come();
`;
/** What a test may use of the memory; a flood that is not held back takes all of it within seconds. */
const heap_bytes_max = 256 * 2 ** 20;

let w: BrokerWorld;
let child: ChildProcess | undefined;
beforeEach(async () => {
  w = await BrokerWorld.open();
  chmodSync(w.directory, 0o711);
  await w.ready();
});
afterEach(async () => {
  if (child?.exitCode === null && child.signalCode === null) {
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
  await w[Symbol.asyncDispose]();
});

describe('a process that floods the socket of a broker', () => {
  it.each([
    ['a holder', 16, ownUid === 0 ? 2_001 : undefined],
    ['a holder, one request after the other', 1, ownUid === 0 ? 2_001 : undefined],
    // Without root there is nobody else to be.
    ['nobody here', 16, ownUid === 0 ? 2_999 : undefined],
  ])('as %s, does not hold up what else the thread has to do', { timeout: 60_000 }, async (_who, deep, uid) => {
    const heapBefore = process.memoryUsage().heapUsed;
    const running = spawn(process.execPath, ['-e', flood, w.socket, String(deep)], {
      ...{ stdio: ['ignore', 'pipe', 'inherit'], cwd: '/' },
      ...(uid === undefined ? {} : { uid, gid: uid }),
    });
    child = running;
    let isFlooding = false;
    running.stdout.on('data', () => (isFlooding = true));
    // Whoever is held back a request at a time is never cut.
    if (deep > 1) await until(() => isFlooding);
    for (let turn = 0; turn < 100; turn++) {
      expect((await w.broker.app.inject('/healthz')).statusCode).toBe(200);
      await sleep(10);
    }
    expect(process.memoryUsage().heapUsed - heapBefore).toBeLessThan(heap_bytes_max);
    expect(running.exitCode).toBeNull();
    running.kill('SIGKILL');
    await once(running, 'exit');
    // Whoever is let in again, is served.
    await until(async () => {
      const session = await w
        .client()
        .sessions.open({ machine: 'edge', holder: 'web', ttl_s: 60 })
        .catch(() => undefined);
      return session?.state === 'live';
    });
  });
});
