/**
 * Loaded into an agent or a server before everything else (`--import`), to do to one process what cannot be done to one
 * network namespace:
 *
 * - its wall clock is off by the milliseconds that the file FAKE_WALL says, from the moment it says them;
 * - on SIGUSR2 its main thread stands still for FAKE_BLOCK_MS; its other threads go on.
 */
import { readFileSync } from 'node:fs';
import { isMainThread } from 'node:worker_threads';

const file = process.env['FAKE_WALL'];
if (file !== undefined) {
  const RealDate = Date;
  let offMs = 0;
  setInterval(() => {
    offMs = Number(readFileSync(file, 'utf8'));
  }, 20).unref();
  const now = (): number => RealDate.now() + offMs;
  globalThis.Date = class extends RealDate {
    constructor(...args: readonly unknown[]) {
      super(...((args.length === 0 ? [now()] : args) as [number]));
    }
    static override now(): number {
      return now();
    }
  } as DateConstructor;
}

if (isMainThread)
  process.on('SIGUSR2', () => {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, Number(process.env['FAKE_BLOCK_MS']));
  });
