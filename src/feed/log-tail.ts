import type { Event } from '../leases/model.ts';
import type { Log } from './feed.ts';

export type LogTailParts = Readonly<{
  log: Log;
  /** Takes events in revision order. */
  publish: (events: readonly Event[]) => void;
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
 * the log, which has it all. A wake-up may come too often, too late, or for nothing.
 */
export class LogTail {
  readonly #parts: Required<LogTailParts>;
  /** The newest revision that was handed on. */
  #reached: number;
  #isReading = false;
  #isStale = false;

  private constructor(parts: LogTailParts, reached: number) {
    this.#parts = { onError: () => {}, pageMax: 512, ...parts };
    this.#reached = reached;
  }

  /** Begins at the end of the log as it is now. */
  static async start(parts: LogTailParts): Promise<LogTail> {
    return new LogTail(parts, await parts.log.revision());
  }

  /** Takes what this server has just committed, in order. */
  offer(events: readonly Event[]): void {
    if (!this.#isReading && events[0]?.revision === this.#reached + 1) this.#handOn(events);
    else this.wake();
  }

  /** Says that there may be something new in the log. */
  wake(): void {
    this.#isStale = true;
    if (!this.#isReading) void this.#read();
  }

  async #read(): Promise<void> {
    const { log, pageMax, onLoss, onError } = this.#parts;
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
          const page = await log.eventsAfter(this.#reached, null, pageMax);
          if (page.length === 0) break;
          this.#handOn(page);
        }
      }
    } catch (error) {
      onError(error);
    } finally {
      this.#isReading = false;
    }
  }

  #handOn(events: readonly Event[]): void {
    this.#reached = events.at(-1)?.revision ?? this.#reached;
    this.#parts.publish(events);
  }
}
