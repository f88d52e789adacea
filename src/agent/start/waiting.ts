/** Whether somebody has asked for the end. A call, because the answer changes between two looks at it. */
export const isOver = (signal: AbortSignal): boolean => signal.aborted;

/** Resolves when the signal aborts. */
export async function whenOver(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  const { promise, resolve } = Promise.withResolvers<undefined>();
  signal.addEventListener('abort', () => resolve(undefined), { once: true });
  await promise;
}

/** Waits for the time, or until the signal aborts, whichever is first. Infinity: for the signal alone. */
export async function doze(ms: number, signal: AbortSignal): Promise<void> {
  await new Bell().heard(signal, ms);
}

/** Wakes a loop that has nothing to do. Rung while nobody waits, it wakes the next wait at once. */
export class Bell {
  #wake: (() => void) | undefined;
  #isRung = false;

  ring(): void {
    this.#isRung = true;
    this.#wake?.();
  }

  /** Resolves when it is rung, the time is up, or the signal aborts. For one loop at a time. */
  async heard(signal: AbortSignal, ms = Infinity): Promise<void> {
    if (!this.#isRung && !signal.aborted) {
      const { promise, resolve } = Promise.withResolvers<undefined>();
      const wake = () => resolve(undefined);
      this.#wake = wake;
      const timer = Number.isFinite(ms) ? setTimeout(wake, ms) : undefined;
      signal.addEventListener('abort', wake, { once: true });
      await promise;
      clearTimeout(timer);
      signal.removeEventListener('abort', wake);
      this.#wake = undefined;
    }
    this.#isRung = false;
  }
}

/** Rejects with the first task that fails; a task that ends is no reason to end. */
export function neverEnding(tasks: readonly Promise<void>[]): Promise<never> {
  const { promise, reject } = Promise.withResolvers<never>();
  for (const task of tasks) task.catch(reject);
  return promise;
}
