/** What is free and what is in use at an instant (µs since 1970), in ports. */
export type Sample = Readonly<{ at: number; free: number; used: number }>;

/** Over so long a time the rate is taken: long enough to see through single grants, short enough to notice a trend. */
const window_us = 900_000_000;
/** Less than this says nothing about a rate. */
const span_us_min = 60_000_000;
/** Closer together than this, samples say the same. */
const spacing_us_min = 10_000_000;

/**
 * When the free ports will be used up if they go on being taken at the rate of the last quarter of an hour. An estimate: it
 * knows of no daily rhythm. Ports that rest count as used, so that a burst that is given back shows up as what it is.
 */
export class Exhaustion {
  #samples: readonly Sample[] = [];

  note(sample: Sample): void {
    const last = this.#samples.at(-1);
    if (last && sample.at - last.at < spacing_us_min) return;
    this.#samples = [...this.#samples.filter(({ at }) => at >= sample.at - window_us), sample];
  }

  /** Seconds; 0 when nothing is free, Infinity while the use does not rise, undefined while too little is known. */
  secondsLeft(now: Sample): number | undefined {
    if (now.free === 0) return 0;
    const [first] = this.#samples;
    if (!first || now.at - first.at < span_us_min) return undefined;
    const perS = ((now.used - first.used) / (now.at - first.at)) * 1e6;
    return perS > 0 ? now.free / perS : Infinity;
  }
}
