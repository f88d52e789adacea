/** Seconds on the wire, whole microseconds in the core. */
export const microseconds = (s: number): number => Math.round(s * 1_000_000);
export const seconds = (us: number): number => us / 1_000_000;
