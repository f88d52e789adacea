import { err, ok, type Result } from '../net/result.ts';
import type { Context } from './context.ts';

/** How long a change may take from the log to the followers before that counts as a fault. */
const lag_ms_max = 2_000;
const look_ms = 50;

/** The newest revision, when the server can do its work; otherwise what is wrong. `startedAt`: the one it began with. */
export async function readiness(context: Context, startedAt: number): Promise<Result<number, string>> {
  const { reader, leases, feed, stopping } = context;
  if (stopping.aborted) return err('the server is shutting down');
  // Every command tells whether it could be written, and the sweeper gives one every second.
  const { reason } = leases.health();
  if (reason !== null) return err(`nothing can be written: ${reason}`);
  try {
    const revision = await reader.revision();
    for (let waited_ms = 0; revision > startedAt && feed.published < revision; waited_ms += look_ms) {
      if (waited_ms >= lag_ms_max)
        return err(`changes are not passed on: the log is at ${revision}, followers have seen ${feed.published}`);
      await new Promise((resolve) => setTimeout(resolve, look_ms));
    }
    return ok(revision);
  } catch (cause) {
    return err(`the database cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`);
  }
}
