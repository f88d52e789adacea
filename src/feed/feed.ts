import type { Event, Interest } from '../leases/model.ts';
import { Audience } from './audience.ts';
import { Bell } from './bell.ts';
import { Follower } from './follower.ts';

/** All that the feed asks of a store. */
export interface Log {
  revision(): Promise<number>;
  oldestRevision(): Promise<number>;
  /** Events after `revision` that are of interest, in order, at most `limit`. */
  eventsAfter(revision: number, interest: Interest, limit: number): Promise<readonly Event[]>;
}

export type FeedItem =
  | Readonly<{ type: 'event'; event: Event }>
  /** Everything up to this revision has been handed over; what follows is live. Repeated every `bookmarkMs`. */
  | Readonly<{ type: 'caught_up'; revision: number }>
  /** The log no longer reaches back to where the follower stopped: it has to take a snapshot. The last item. */
  | Readonly<{ type: 'compacted'; oldest: number }>;

export type FeedOptions = Readonly<{
  log: Log;
  /** Events that may wait for one reader before it is set aside. */
  queueMax?: number;
  /** Events read from the log at once while catching up. */
  catchUpMax?: number;
}>;

/**
 * Who has seen what. Committed events are handed to live followers in revision order; a follower that was away, or was too
 * slow, is caught up from the log. Nobody sees a gap, a duplicate, or anything that is not durable.
 */
export class Feed {
  readonly #log: Log;
  readonly #queueMax: number;
  readonly #catchUpMax: number;
  readonly #followers = new Audience();
  readonly #listeners = new Set<(event: Event) => void>();
  /** Under way in `waitFor`. */
  #waiting = 0;
  #published = 0;
  readonly #closing = new AbortController();

  constructor({ log, queueMax = 1_024, catchUpMax = 512 }: FeedOptions) {
    this.#log = log;
    this.#queueMax = queueMax;
    this.#catchUpMax = catchUpMax;
  }

  get followerCount(): number {
    return this.#followers.count;
  }

  /** The newest revision that was handed to the followers; 0 before the first. */
  get published(): number {
    return this.#published;
  }

  /** Whether anybody waits for more than what concerns everybody, which is all that listeners of `onEvent` hear of for sure. */
  get isFollowed(): boolean {
    return this.#followers.count > 0 || this.#waiting > 0;
  }

  /**
   * Takes events that have just become durable, in revision order; through `through` there are no others that anybody
   * waits for. Never waits for anybody.
   */
  publish(events: readonly Event[], through = events.at(-1)?.revision ?? 0): void {
    if (this.#closing.signal.aborted) return;
    // A hole: the log was compacted before this server had read so far. Each follower finds out what that means to it.
    const hasHole = this.#published > 0 && (events[0]?.revision ?? 0) > this.#published + 1;
    if (hasHole) for (const follower of this.#followers.all()) follower.setAside();
    for (const event of events) {
      for (const listener of this.#listeners) listener(event);
      for (const follower of this.#followers.of(event)) follower.offer(event);
      this.#published = event.revision;
    }
    this.#published = Math.max(this.#published, through);
  }

  /**
   * Events after revision `from` that are of `interest`, for as long as `signal` allows. A consumer that is slow
   * between items is caught up from the log; one that was too slow for the log gets `compacted` and the end. With
   * `bookmarkMs` it is told that often how far it is, also when nothing happens that concerns it.
   */
  async *follow(o: {
    interest: Interest;
    from: number;
    signal: AbortSignal;
    bookmarkMs?: number;
  }): AsyncGenerator<FeedItem, void, void> {
    const follower = new Follower(o.interest, this.#queueMax);
    const stop = () => follower.wake();
    const bookmark = { isDue: false };
    const ticker =
      o.bookmarkMs === undefined
        ? undefined
        : setInterval(() => {
            bookmark.isDue = true;
            follower.wake();
          }, o.bookmarkMs);
    this.#followers.add(follower);
    o.signal.addEventListener('abort', stop);
    const isOver = () => o.signal.aborted || this.#closing.signal.aborted;
    let cursor = o.from;
    try {
      while (!isOver()) {
        follower.beginCatchUp();
        // The end is read before the events: what commits in between is queued, and told from what was read by its revision.
        const end = await this.#log.revision();
        for (let isLast = false; !isLast;) {
          const page = await this.#log.eventsAfter(cursor, o.interest, this.#catchUpMax);
          // Asked after the page was read: had the log been compacted under it, the page could have a hole in front.
          const oldest = await this.#log.oldestRevision();
          if (cursor + 1 < oldest) {
            yield { type: 'compacted', oldest };
            return;
          }
          for (const event of page) {
            yield { type: 'event', event };
            cursor = event.revision;
            if (isOver()) return;
          }
          isLast = page.length < this.#catchUpMax;
        }
        cursor = Math.max(cursor, end);
        yield { type: 'caught_up', revision: cursor };

        while (!isOver() && !follower.missed && !follower.hasLost) {
          // At one moment, before anything else can run: up to here, what is taken is all that there is.
          const reached = this.#published;
          for (const event of follower.take()) {
            if (event.revision <= cursor) continue;
            yield { type: 'event', event };
            cursor = event.revision;
            if (isOver()) return;
          }
          cursor = Math.max(cursor, reached);
          if (bookmark.isDue) {
            bookmark.isDue = false;
            yield { type: 'caught_up', revision: cursor };
          }
          await follower.heard();
        }
        if (follower.hasLost) {
          yield { type: 'compacted', oldest: await this.#log.oldestRevision() };
          return;
        }
      }
    } finally {
      clearInterval(ticker);
      o.signal.removeEventListener('abort', stop);
      this.#followers.remove(follower);
    }
  }

  /**
   * Waits until `isDone`, which is asked at once and after every event that `wakes` names, answers true. False when the
   * time was over or the signal came first. Register first, look second: nothing that commits in between is missed.
   */
  async waitFor(o: {
    wakes: (event: Event) => boolean;
    isDone: () => Promise<boolean>;
    timeoutMs: number;
    signal?: AbortSignal;
  }): Promise<boolean> {
    const bell = new Bell();
    const timedOut = new AbortController();
    const signal = AbortSignal.any([timedOut.signal, this.#closing.signal, ...(o.signal ? [o.signal] : [])]);
    const listener = (event: Event) => {
      if (o.wakes(event)) bell.ring();
    };
    const end = () => bell.ring();
    const timer = setTimeout(() => timedOut.abort(), o.timeoutMs);
    this.#listeners.add(listener);
    this.#waiting++;
    signal.addEventListener('abort', end);
    try {
      for (;;) {
        // Asked before the look: an end that comes during it leads to one more.
        const isOver = signal.aborted;
        if (await o.isDone()) return true;
        if (isOver) return false;
        await bell.heard();
      }
    } finally {
      clearTimeout(timer);
      this.#waiting--;
      this.#listeners.delete(listener);
      signal.removeEventListener('abort', end);
    }
  }

  /** What was published is no longer in the log: nobody can go on from it, each follower has to take a snapshot. */
  lose(): void {
    this.#published = 0;
    for (const follower of this.#followers.all()) follower.lose();
  }

  /**
   * Calls back with the events from now on, in order: those that concern everybody, and others as they come by. Returns
   * the way out.
   */
  onEvent(listener: (event: Event) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Ends every follower. */
  close(): void {
    this.#closing.abort();
    for (const follower of this.#followers.all()) follower.wake();
  }
}
