import { common, type Event } from '../leases/model.ts';
import type { Log } from './feed.ts';

export type LogTailParts = Readonly<{
  log: Log;
  /** Takes events in revision order, and through which revision there are no others that anybody waits for. */
  publish: (events: readonly Event[], through: number) => void;
  /** Whether anybody waits for more than what concerns everybody; always, if not given. */
  isFollowed?: () => boolean;
  /** The log ends below what was handed on: the database lost what it had committed, in a failover, say. */
  onLoss: () => void;
  /** A look at the log that failed; the next wake-up tries again. */
  onError?: (error: unknown) => void;
  /** Events read at once. */
  pageMax?: number;
}>;

/**
 * Everything that is committed from now on, by this server or another, once and in revision order. What this server
 * commits itself is handed on as it is, as long as nobody else's commit belongs in front of it; anything else is read from
 * the log, which has it all. Where nobody follows, only what concerns everybody is: of servers that share the work each
 * would otherwise read what all the others do. A wake-up may come too often, too late, or for nothing.
 */
export class LogTail {
  readonly #parts: Required<LogTailParts>;
  /** The newest revision that was handed on. */
  #reached: number;
  #isReading = false;
  #isStale = false;

  private constructor(parts: LogTailParts, reached: number) {
    this.#parts = { isFollowed: () => true, onError: () => {}, pageMax: 512, ...parts };
    this.#reached = reached;
  }

  /** Begins at the end of the log as it is now. */
  static async start(parts: LogTailParts): Promise<LogTail> {
    return new LogTail(parts, await parts.log.revision());
  }

  /** Takes what this server has just committed, in order. */
  offer(events: readonly Event[]): void {
    const last = events.at(-1);
    if (last && !this.#isReading && events[0]?.revision === this.#reached + 1) this.#handOn(events, last.revision);
    else this.wake();
  }

  /** Says that there may be something new in the log. */
  wake(): void {
    this.#isStale = true;
    if (!this.#isReading) void this.#read();
  }

  async #read(): Promise<void> {
    const { log, pageMax, isFollowed, onLoss, onError } = this.#parts;
    this.#isReading = true;
    try {
      while (this.#isStale) {
        this.#isStale = false;
        const end = await log.revision();
        if (end < this.#reached) {
          this.#reached = end;
          onLoss();
        }
        while (this.#reached < end) {
          // Asked after the end was read: who begins to follow from here on finds what is skipped in the log.
          const interest = isFollowed() ? null : common;
          const found = await log.eventsAfter(this.#reached, interest, pageMax);
          const page = found.filter(({ revision }) => revision <= end);
          const isWhole = found.length < pageMax || page.length < found.length;
          this.#handOn(page, isWhole ? end : (page.at(-1)?.revision ?? end));
        }
      }
    } catch (error) {
      onError(error);
    } finally {
      this.#isReading = false;
    }
  }

  #handOn(events: readonly Event[], through: number): void {
    this.#reached = through;
    this.#parts.publish(events, through);
  }
}
