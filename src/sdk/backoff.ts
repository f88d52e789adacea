import { setTimeout as sleep } from 'node:timers/promises';

/** How long to wait between attempts. */
export type Backoff = Readonly<{
  firstMs: number;
  maxMs: number;
  /** In [0, 1); Math.random unless a test wants to know the outcome. */
  random?: () => number;
}>;

/**
 * The wait before attempt number `attempt` (1 is the first repetition): doubled each time up to `maxMs`, and then drawn
 * from the upper half, so that many clients that lost the same server do not come back in step.
 */
export function backoffMs(backoff: Backoff, attempt: number): number {
  // 2 ** 30 of any wait is beyond every `maxMs`; without the bound the power overflows to Infinity * 0.
  const full = Math.min(backoff.maxMs, backoff.firstMs * 2 ** Math.min(attempt - 1, 30));
  return full / 2 + (full / 2) * (backoff.random ?? Math.random)();
}

/** Waits; rejects with the signal's reason when it aborts. */
export async function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  signal?.throwIfAborted();
  try {
    await sleep(ms, undefined, signal ? { signal } : {});
  } catch (cause) {
    // The timer rejects with an AbortError of its own; callers compare with the reason that they gave.
    signal?.throwIfAborted();
    throw cause;
  }
}
