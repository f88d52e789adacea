import type { Event, Interest } from '../leases/model.ts';
import { Bell } from './bell.ts';

/**
 * What one reader has been handed but not taken yet. Bounded: when it is full the reader is set aside (`missed`) and has to
 * catch up from the log, so that a slow reader costs the writer and the others nothing.
 */
export class Follower {
  readonly interest: Interest;
  readonly #queueMax: number;
  #queue: Event[] = [];
  #missed = false;
  #hasLost = false;
  readonly #bell = new Bell();

  constructor(interest: Interest, queueMax: number) {
    this.interest = interest;
    this.#queueMax = queueMax;
  }

  /** Whether events went by that the queue had no room for. */
  get missed(): boolean {
    return this.#missed;
  }

  offer(event: Event): void {
    if (this.#missed) return;
    if (this.#queue.length >= this.#queueMax) this.setAside();
    else {
      this.#queue.push(event);
      this.wake();
    }
  }

  /** Makes it catch up from the log. */
  setAside(): void {
    // What is queued is in the log too: keeping half of it would only make catching up harder to get right.
    this.#queue = [];
    this.#missed = true;
    this.wake();
  }

  /** Everything queued, in order; the queue is empty afterwards. */
  take(): readonly Event[] {
    const taken = this.#queue;
    this.#queue = [];
    return taken;
  }

  /** What it was handed never happened, as far as the log knows now. */
  lose(): void {
    this.#hasLost = true;
    this.setAside();
  }

  get hasLost(): boolean {
    return this.#hasLost;
  }

  /** To be called before the log is read: from here on, what is committed is queued again. */
  beginCatchUp(): void {
    this.#queue = [];
    this.#missed = false;
  }

  /** Resolves when something was offered, or `wake` was called, since the last time. */
  heard(): Promise<void> {
    return this.#bell.heard();
  }

  wake(): void {
    this.#bell.ring();
  }
}
