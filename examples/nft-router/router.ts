import { setTimeout as sleep } from 'node:timers/promises';
import { followRoutes, isFisheryError, type FisheryClient, type RouteFilter } from '../../src/sdk/index.ts';

export type RouterOptions = Readonly<{
  client: FisheryClient;
  /** Whose acknowledgements they are. */
  router: string;
  filter: RouteFilter;
  /** Makes a file of routes true. When it throws, nothing is acknowledged, and it is tried again. */
  install: (file: string) => Promise<void>;
  log: (line: string) => void;
  signal: AbortSignal;
  retry_ms?: number;
}>;

/**
 * Keeps routes true until the signal: hears of changes, has the server make a file of all routes, installs it, and
 * acknowledges. Changes that come while a file is being installed share the next one. Bookmarks are acknowledged too: that
 * is how operators see that the router lives.
 */
export async function runRouter(options: RouterOptions): Promise<void> {
  const { client, filter, log, signal } = options;
  let heard = 0;
  let isDirty = false;
  let wake = () => {};
  const failed = new AbortController();
  const stop = AbortSignal.any([signal, failed.signal]);
  const isOver = () => stop.aborted;
  stop.addEventListener('abort', () => wake());

  const follow = async () => {
    const onTrouble = (error: Error, retryInMs: number) =>
      log(`${error.message}; again in ${Math.round(retryInMs)} ms`);
    for await (const item of followRoutes(client, filter, { signal: stop, onTrouble })) {
      if (item.type === 'snapshot') heard = item.snapshot.revision;
      else heard = item.type === 'change' ? item.change.revision : item.revision;
      isDirty ||= item.type !== 'bookmark';
      wake();
    }
  };

  let done = 0;
  const install = async () => {
    while (!isOver()) {
      if (heard === done && !isDirty) await new Promise<void>((resolve) => (wake = resolve));
      if (isOver()) return;
      // The file is made after this revision was heard of, so it has all that came before.
      const goal = heard;
      const wasDirty = isDirty;
      isDirty = false;
      try {
        if (wasDirty) {
          await options.install(await client.routes.nft(filter, { signal: stop }));
          log(`routes of revision ${goal} are in place`);
        }
        await client.routers.applied(options.router, { revision: goal }, { signal: stop });
        done = goal;
      } catch (thrown) {
        if (isOver()) return;
        if (isFisheryError(thrown) && !thrown.retryable) throw thrown;
        isDirty ||= wasDirty;
        log(`revision ${goal}: ${thrown instanceof Error ? thrown.message : String(thrown)}`);
        await sleep(options.retry_ms ?? 1_000, undefined, { signal: stop }).catch(() => {});
      }
    }
  };

  // When one of the two is over for good, so is the other.
  const ends = [follow(), install()].map((end) => end.finally(() => failed.abort()));
  const [first] = (await Promise.allSettled(ends)).filter((end) => end.status === 'rejected');
  if (first) throw first.reason;
}
