import { readFileSync } from 'node:fs';

/**
 * Milliseconds since the machine started, sleep included (CLOCK_BOOTTIME, which Node has no call for), to a hundredth of
 * a second. A keepalive that was sent before the lid was shut must not open the guard after it was opened again.
 */
export function bootClockMs(): number {
  const [seconds] = readFileSync('/proc/uptime', 'utf8').split(' ', 1);
  const ms = Number(seconds) * 1_000;
  if (!(ms > 0)) throw new Error('/proc/uptime does not say how long the machine runs');
  return ms;
}
