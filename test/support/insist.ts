import { setTimeout as sleep } from 'node:timers/promises';
import { isFisheryError } from '../../src/sdk/index.ts';

/**
 * Does it until it is done, as whoever asks would: each attempt is the same request, by its key. `again` is called before each but
 * the first.
 */
export async function insist<T>(ask: (idempotencyKey: string) => Promise<T>, again: () => void = () => {}): Promise<T> {
  const key = crypto.randomUUID();
  for (;;) {
    try {
      return await ask(key);
    } catch (error) {
      if (!isFisheryError(error) || !(error.retryable || error.status === 503)) throw error;
      again();
      await sleep(5);
    }
  }
}
