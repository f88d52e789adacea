import { parseInstant } from '../../wire/instants.ts';

/**
 * The server's clock, as this host knows it: what each answer told, carried on by the clock that goes on while the host sleeps
 * (CLOCK_BOOTTIME). Whatever anybody sets the host's wall clock to does not move it.
 */
export class ServerClock {
  readonly #now: () => number;
  /** Microseconds by which the server's clock is ahead of this host's time since its start. */
  #aheadUs: number | undefined;

  /** `now`: milliseconds since the host started, sleep included. */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** The server read its clock at some time between the two instants of this host, in milliseconds by `now`. */
  hear(instant: string, sentAt: number, receivedAt: number): void {
    const us = parseInstant(instant);
    const [least, most] = [us - receivedAt * 1_000, us - sentAt * 1_000];
    const known = this.#aheadUs ?? (least + most) / 2;
    // What is known already may be better than what a slow answer tells, and is kept as long as it can be true.
    this.#aheadUs = Math.min(Math.max(known, least), most);
  }

  /** Microseconds since the epoch; undefined before the server has said. */
  nowUs(): number | undefined {
    return this.#aheadUs === undefined ? undefined : Math.round(this.#aheadUs + this.#now() * 1_000);
  }
}
