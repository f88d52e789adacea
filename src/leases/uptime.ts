import { limits } from './limits.ts';

/**
 * Since when the table has been served without a break, as far as this server knows. The answer is on the store's clock,
 * which decides; the length of the time is measured on the server's own, which nobody sets. A time in which nothing could
 * be written, or a jump of the store's clock (somebody set it, another host took over), counts as a new start: what was
 * due in between could not be kept alive by anybody.
 */
export class Uptime {
  /** On the server's clock. */
  #since: number;
  /** The store's clock minus the server's, when they were last compared. */
  #offset: number | undefined;

  constructor(now: number) {
    this.#since = now;
  }

  /** Nothing could be written: what comes next is a new start. */
  interrupt(): void {
    this.#since = Infinity;
  }

  /** The start on the store's clock, from one instant read on both clocks. */
  startedAt(now: number, storeNow: number): number {
    const offset = storeNow - now;
    const hasJumped = this.#offset !== undefined && Math.abs(offset - this.#offset) > limits.clock_jump_us_max;
    this.#offset = offset;
    if (hasJumped || this.#since > now) this.#since = now;
    return this.#since + offset;
  }
}
