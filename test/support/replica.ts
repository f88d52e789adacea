import { Feed } from '../../src/feed/feed.ts';
import { LogTail } from '../../src/feed/log-tail.ts';
import type { Event } from '../../src/leases/model.ts';
import { LeaseService, type Clock, type Trouble } from '../../src/leases/lease-service.ts';
import type { Store } from '../../src/leases/store.ts';

/** A server's core on a store that others may use too, and a follower that has seen all that it was shown. */
export class Replica implements AsyncDisposable {
  readonly store: Store;
  readonly service: LeaseService;
  readonly feed: Feed;
  readonly seen: Event[] = [];
  readonly troubles: readonly Trouble[];
  readonly #stop = new AbortController();
  readonly #following: Promise<void>;

  private constructor(parts: Pick<Replica, 'store' | 'service' | 'feed' | 'troubles'>) {
    this.store = parts.store;
    this.service = parts.service;
    this.feed = parts.feed;
    this.troubles = parts.troubles;
    this.#following = this.#follow();
  }

  static async start(store: Store, clock: Clock): Promise<Replica> {
    const troubles: Trouble[] = [];
    const service = new LeaseService({ store, clock, onTrouble: (trouble) => troubles.push(trouble) });
    const feed = new Feed({ log: store.reader });
    const tail = await LogTail.start({
      log: store.reader,
      publish: (events, through) => feed.publish(events, through),
      isFollowed: () => feed.isFollowed,
      onLoss: () => feed.lose(),
    });
    service.onEvents((events) => tail.offer(events));
    store.onForeignCommit(() => tail.wake());
    return new Replica({ store, service, feed, troubles });
  }

  async #follow(): Promise<void> {
    for await (const item of this.feed.follow({ interest: null, from: 0, signal: this.#stop.signal }))
      if (item.type === 'event') this.seen.push(item.event);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#following;
    this.feed.close();
    await this.service.close();
  }
}
