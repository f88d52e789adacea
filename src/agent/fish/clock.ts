/** What to add to this thread's `performance.now()`: its origin is the thread's own. */
const origin_ms = Number(process.hrtime.bigint()) / 1_000_000 - performance.now();

/**
 * Milliseconds on the machine's clock (CLOCK_MONOTONIC, which `process.hrtime` reads): it never goes back, and means the same
 * to every thread and process since the machine started, so that flows keep their time when the process does not live on.
 */
export const machineClockMs = (): number => performance.now() + origin_ms;

/** As far as is known when the thread starts, what to add to that for milliseconds since 1970. */
export const wallOffsetAtStart_ms = performance.timeOrigin - origin_ms;
