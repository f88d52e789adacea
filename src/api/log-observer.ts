import type { Event } from '../leases/model.ts';
import type { Parts } from './parts.ts';

/** What an observer of the log is told: each thing once, as it happens, whoever caused it. */
export type LogCounters = Readonly<{
  granted: (protocol: string, mode: string) => void;
  refused: (protocol: string) => void;
  leaseEnded: (ending: string) => void;
  sessionOpened: () => void;
  sessionEnded: (ending: string) => void;
}>;

/**
 * Follows the whole log as any other follower does: what it counts is what happened, also by the sweeper and not only by
 * requests; and how far it has come shows whether changes are being passed on.
 */
export class LogObserver {
  readonly #parts: Pick<Parts, 'feed' | 'reader'>;
  readonly #counters: LogCounters;
  #reached = 0;

  constructor(parts: Pick<Parts, 'feed' | 'reader'>, counters: LogCounters) {
    this.#parts = parts;
    this.#counters = counters;
  }

  /** The newest revision that came through the feed. */
  get reached(): number {
    return this.#reached;
  }

  /** Until the signal. What happened before is not counted: counters begin at zero with the process. */
  async run(signal: AbortSignal): Promise<void> {
    const isOver = () => signal.aborted;
    while (!isOver()) {
      const from = await this.#parts.reader.revision();
      for await (const item of this.#parts.feed.follow({ machine: null, from, signal })) {
        // Compacted under a follower that was too slow: what was missed is missing in the counters.
        if (item.type === 'compacted') break;
        if (item.type === 'event') this.#count(item.event);
        this.#reached = item.type === 'event' ? item.event.revision : item.revision;
      }
      if (!isOver()) await new Promise((resolve) => setTimeout(resolve, 1_000).unref());
    }
  }

  #count(event: Event): void {
    if (event.kind === 'lease') {
      const { lease } = event;
      if (lease.id === event.revision) this.#counters.granted(lease.protocol, lease.mode);
      if (lease.state === 'refused') this.#counters.refused(lease.protocol);
      // Leases of an ended session have no event when they begin to end, but each has one when it was proven empty.
      if (lease.emptyAt === event.at && lease.ending !== null) this.#counters.leaseEnded(lease.ending);
    }
    if (event.kind === 'session') {
      if (event.session.id === event.revision) this.#counters.sessionOpened();
      if (event.session.ending !== null) this.#counters.sessionEnded(event.session.ending);
    }
  }
}
