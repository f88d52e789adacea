import { EventEmitter } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { Shutdown, type ShutdownOptions } from '../../src/ops/shutdown.ts';

class Host extends EventEmitter {
  readonly exits: number[] = [];
  exit(code: number) {
    this.exits.push(code);
  }
}

function begin(options: Partial<ShutdownOptions> = {}) {
  const host = new Host();
  const lines: string[] = [];
  const log = { info: (line: string) => lines.push(line), error: (line: string) => lines.push(line) };
  const shutdown = new Shutdown({ deadline_ms: 5_000, repeat_ignored_ms: 0, host, log, ...options });
  return { host, lines, shutdown };
}

const forever = () => new Promise<void>(() => {});

describe('closing', () => {
  it.each(['SIGTERM', 'SIGINT'])(
    'begins at %s and closes one after the other, the last opened first',
    async (signal) => {
      const { host, shutdown } = begin();
      const order: string[] = [];
      shutdown.register('store', () => void order.push('store'));
      shutdown.register('server', async () => {
        order.push('server closing');
        await sleep(5);
        order.push('server closed');
      });
      host.emit(signal);
      expect(await shutdown.finished).toBe(0);
      expect(order).toEqual(['server closing', 'server closed', 'store']);
    },
  );

  it('is a failure where it was begun as one, or told so on the way', async () => {
    const { shutdown } = begin();
    expect(await shutdown.begin('the engine is gone', 1)).toBe(1);
    const { shutdown: another } = begin();
    another.register('server', () => sleep(5));
    void another.begin('SIGTERM');
    expect(await another.begin('the engine is gone', 1)).toBe(1);
  });

  it('aborts its signal first, so that waits end by themselves', async () => {
    const { shutdown } = begin();
    let aborted = false;
    shutdown.register('loop', () => {
      aborted = shutdown.signal.aborted;
    });
    await shutdown.begin('done');
    expect(aborted).toBe(true);
    expect(shutdown.signal.reason).toEqual(new Error('done'));
  });

  it('happens once, however often it is asked for', async () => {
    const { shutdown } = begin();
    let closed = 0;
    shutdown.register('store', () => void (closed += 1));
    expect(await Promise.all([shutdown.begin('one'), shutdown.begin('two')])).toEqual([0, 0]);
    expect(closed).toBe(1);
  });

  it.each([
    ['rejects', () => Promise.reject(new Error('disk full'))],
    [
      'throws',
      () => {
        throw new Error('disk full');
      },
    ],
  ])('goes on when a closer %s, and ends with 1', async (_how, close) => {
    const { lines, shutdown } = begin();
    let storeClosed = false;
    shutdown.register('store', () => {
      storeClosed = true;
    });
    shutdown.register('server', close);
    expect(await shutdown.begin('test')).toBe(1);
    expect(storeClosed).toBe(true);
    expect(lines).toContain('closing server failed: disk full');
  });

  it('gives up at the deadline and names what is left, in the order it would have closed', async () => {
    const { lines, shutdown } = begin({ deadline_ms: 20 });
    shutdown.register('store', () => {});
    shutdown.register('feed', () => {});
    shutdown.register('server', forever);
    expect(await shutdown.begin('test')).toBe(1);
    expect(lines).toContain('not closed within 20 ms: server, feed, store');
  });

  it('refuses what is opened after it began', async () => {
    const { shutdown } = begin();
    await shutdown.begin('test');
    expect(() => shutdown.register('late', () => {})).toThrow('"late" was opened after');
  });
});

describe('signals', () => {
  it('end the process at once when they come again', () => {
    const { host, shutdown } = begin();
    shutdown.register('server', forever);
    host.emit('SIGTERM');
    expect(host.exits).toEqual([]);
    host.emit('SIGINT');
    expect(host.exits).toEqual([1]);
  });

  it('that are echoes of the first change nothing', () => {
    const { host, shutdown } = begin({ repeat_ignored_ms: 60_000 });
    shutdown.register('server', forever);
    host.emit('SIGINT');
    host.emit('SIGINT');
    host.emit('SIGINT');
    expect(host.exits).toEqual([]);
  });

  it('have no listener left when all is closed', async () => {
    const { host, shutdown } = begin();
    await shutdown.begin('test');
    expect(host.listenerCount('SIGTERM') + host.listenerCount('SIGINT')).toBe(0);
  });
});
