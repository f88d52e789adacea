import type { Logger } from '../../ops/logger.ts';
import type { Host } from '../host/host.ts';
import { doze, isOver } from '../start/waiting.ts';

/** An empty queue is looked at in some three microseconds; Node offers no way to be woken by it. */
const hear_every_ms = 50;
/** Sysctls have nobody who tells of their changes. Reading a dozen of them takes a fraction of a millisecond. */
const sysctls_every_ms = 1_000;
/** Somebody who changes things all the time (addresses of containers come and go) must not keep the agent looking. */
const look_pause_ms = 500;

/**
 * Calls `onChange` soon after somebody else changed something that the agent looks after, until `signal` aborts. What it
 * really was, and whether it matters, the look will show.
 */
export async function watchForMeddling(
  host: Pick<Host, 'hear' | 'sysctlsChanged' | 'steeringChanged'>,
  onChange: () => void,
  log: Pick<Logger, 'debug' | 'warn'>,
  signal: AbortSignal,
  now: () => number,
): Promise<void> {
  let sysctlsAt = -Infinity;
  let toldAt = -Infinity;
  const heard = new Set<string>();
  while (!isOver(signal)) {
    try {
      for (const what of host.hear()) heard.add(what);
      if (now() - sysctlsAt >= sysctls_every_ms) {
        sysctlsAt = now();
        for (const key of host.sysctlsChanged()) heard.add(`sysctl ${key}`);
        for (const device of host.steeringChanged()) heard.add(`steering at ${device}`);
      }
    } catch (error) {
      log.warn(`changes of others cannot be heard just now: ${error instanceof Error ? error.message : String(error)}`);
    }
    if (heard.size > 0 && now() - toldAt >= look_pause_ms) {
      toldAt = now();
      log.debug({ changed: [...heard] }, 'somebody changed something: looking at the host');
      heard.clear();
      onChange();
    }
    await doze(hear_every_ms, signal);
  }
}
