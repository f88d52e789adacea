import type { LogEntry } from '../wire/agent.ts';
import type { EventFilter, FisheryClient } from './client.ts';
import { followLog, type FollowOptions } from './follow-log.ts';

export type FollowedEvents =
  | Readonly<{ type: 'change'; change: LogEntry }>
  /** Everything up to this revision was told, as far as it was asked for. */
  | Readonly<{ type: 'bookmark'; revision: number }>;

/**
 * The log of changes, after the revision `from` or from now on, in order, each entry once, over as many connections as it
 * takes: a lost one is resumed from the last revision that was seen, also when the server was away for long.
 *
 * Runs until `signal` aborts (then it returns) or until there is no going on: then it throws that FisheryError. `compacted`
 * is that the log no longer reaches back to where this was, `revision_unknown` that it lost what was seen (it was restored).
 * Entries are missing then, and whoever needs a whole picture has to read things anew.
 */
export async function* followEvents(
  client: FisheryClient,
  filter: EventFilter = {},
  options: FollowOptions = {},
): AsyncGenerator<FollowedEvents, void, undefined> {
  let reached = options.from;
  const log = {
    name: 'the log',
    takeSnapshot: async (signal: AbortSignal | undefined) => {
      const o = signal ? { signal } : {};
      if (reached === undefined) reached = (await client.server.readiness(o)).revision;
      // The stream would not go on from here: the page has that refusal in full, for want of anything to take instead.
      else await client.events({ after: reached, limit: 1 }, o);
      return { revision: reached };
    },
    openStream: (from: number, signal: AbortSignal) => client.watchEvents(filter, from, signal),
    onReached: (revision: number) => {
      reached = revision;
      client.reached(revision);
    },
  };
  for await (const item of followLog<{ revision: number }, LogEntry>(log, options))
    if (item.type === 'change' || item.type === 'bookmark') yield item;
}
