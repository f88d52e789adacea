/** The one notion of "now" that is handed to whatever must not read a clock itself. */
export type Clock = {
  /** Microseconds since the Unix epoch, a whole number that never goes backwards within one process. */
  nowUs(): number;
};

export type TimeSources = Readonly<{
  /** The system's wall clock, milliseconds since the epoch. It may be set, forwards and backwards. */
  wallMs: () => number;
  /** Milliseconds since any fixed point, with a fraction; never backwards, never stepped. */
  steadyMs: () => number;
}>;

const systemSources: TimeSources = { wallMs: () => Date.now(), steadyMs: () => performance.now() };

/**
 * A wall clock that a step of the system's clock cannot move: it reads the wall once, when it is made, and counts the
 * steady time from there. NTP slews the steady clock too, so the two stay together; what steps (somebody sets the
 * time, a suspended machine wakes) shows up in `steppedUs` and is for the caller to act on.
 */
export class SteadyClock implements Clock {
  readonly #sources: TimeSources;
  readonly #originUs: number;
  #lastUs = 0;

  constructor(sources: TimeSources = systemSources) {
    this.#sources = sources;
    this.#originUs = (sources.wallMs() - sources.steadyMs()) * 1000;
  }

  nowUs(): number {
    // 2^53 µs after 1970 is the year 2255, so a number holds every instant exactly.
    const nowUs = Math.floor(this.#originUs + this.#sources.steadyMs() * 1000);
    this.#lastUs = Math.max(this.#lastUs, nowUs);
    return this.#lastUs;
  }

  /** How far the system's wall clock has stepped away since this clock was made: positive when it was set ahead. */
  steppedUs(): number {
    return Math.round(this.#sources.wallMs() * 1000 - (this.#originUs + this.#sources.steadyMs() * 1000));
  }
}
