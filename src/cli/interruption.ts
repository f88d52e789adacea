import { setTimeout as sleep } from 'node:timers/promises';
import type { Terminal } from './terminal.ts';

/** Ctrl-C and SIGTERM as a signal that work may end by, for commands that would go on for ever. */
export function interruption(signals: Terminal['signals']): Readonly<{ signal: AbortSignal }> & Disposable {
  const controller = new AbortController();
  const interrupt = () => controller.abort(new Error('interrupted'));
  for (const name of ['SIGINT', 'SIGTERM']) signals.on(name, interrupt);
  return {
    signal: controller.signal,
    [Symbol.dispose]: () => {
      for (const name of ['SIGINT', 'SIGTERM']) signals.off(name, interrupt);
    },
  };
}

/** Waits, or not so long when interrupted. */
export async function pauseUnless(signal: AbortSignal, ms: number): Promise<void> {
  await sleep(ms, undefined, { signal }).catch((error: unknown) => {
    if (!signal.aborted) throw error;
  });
}
