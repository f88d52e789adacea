import { backoffMs, pause } from './backoff.ts';
import { FisheryError, localCodes, parseJson } from './errors.ts';
import { SseParser, type ServerSentEvent } from './sse.ts';

export type FollowOptions = Readonly<{
  /** Everything up to this revision is known: no snapshot is taken unless the server no longer has what came after. */
  from?: number;
  signal?: AbortSignal;
  /** A stream that says nothing for so long, heartbeats included, is taken for dead. Default 30 s. */
  silenceMs?: number;
  /** Hears why the stream was lost and when it is tried again. */
  onTrouble?: (error: FisheryError, retryInMs: number) => void;
  random?: () => number;
}>;

/** A log of the server, as somebody with an interest in part of it sees it: a state at a revision, and what comes after. */
export type FollowedLog<Snapshot> = Readonly<{
  /** In the texts of errors: `watch of edge-1`. */
  name: string;
  takeSnapshot: (signal: AbortSignal | undefined) => Promise<Snapshot>;
  /** The raw stream of changes after `from`. */
  openStream: (from: number, signal: AbortSignal) => Promise<ReadableStream<Uint8Array>>;
  /** Called with each revision that the stream has reached. */
  onReached: (revision: number) => void;
}>;

export type LogItem<Snapshot, Change, Query, Request> =
  | Readonly<{ type: 'snapshot'; snapshot: Snapshot }>
  | Readonly<{ type: 'change'; change: Change }>
  | Readonly<{ type: 'bookmark'; revision: number }>
  | Readonly<{ type: 'query'; query: Query }>
  | Readonly<{ type: 'request'; request: Request }>;

type Revised = Readonly<{ revision: number }>;

const waits = { firstMs: 200, maxMs: 5_000 } as const;

/**
 * A snapshot, then every change after it, in order and each once, over as many connections as it takes: what `follow` and
 * `followRoutes` have in common, see there.
 */
export async function* followLog<Snapshot extends Revised, Change extends Revised, Query = never, Request = never>(
  log: FollowedLog<Snapshot>,
  options: FollowOptions,
): AsyncGenerator<LogItem<Snapshot, Change, Query, Request>, void, undefined> {
  const { signal, silenceMs = 30_000, onTrouble = () => {}, random = Math.random } = options;
  let revision = options.from;
  let failures = 0;
  try {
    for (;;) {
      try {
        if (revision === undefined) {
          const snapshot = await log.takeSnapshot(signal);
          revision = snapshot.revision;
          yield { type: 'snapshot', snapshot };
        }
        for await (const event of streamOf<Change, Query, Request>(log, revision, silenceMs, signal)) {
          failures = 0;
          if (event.type === 'compacted') {
            revision = undefined;
            break;
          }
          if (event.type === 'query' || event.type === 'request') {
            yield event;
            continue;
          }
          const reached = event.type === 'change' ? event.change.revision : event.revision;
          // A server may repeat what it sent just before the connection broke; a consumer must not see it twice.
          if (event.type === 'change' ? reached <= revision : reached < revision) continue;
          revision = reached;
          log.onReached(revision);
          yield event;
        }
      } catch (thrown) {
        signal?.throwIfAborted();
        if (!(thrown instanceof FisheryError)) throw thrown;
        // The log that our revision belongs to is gone (a server set up anew): start over from what is there now.
        if (thrown.status === 410 && revision !== undefined) {
          revision = undefined;
          continue;
        }
        if (!thrown.retryable) throw thrown;
        failures++;
        const waitMs = Math.max(
          backoffMs({ ...waits, random }, failures),
          Math.min(thrown.retryAfterMs ?? 0, waits.maxMs),
        );
        onTrouble(thrown, waitMs);
        await pause(waitMs, signal);
      }
    }
  } catch (thrown) {
    if (signal?.aborted && thrown === signal.reason) return;
    throw thrown;
  }
}

type StreamEvent<Change, Query, Request> =
  Exclude<LogItem<never, Change, Query, Request>, { type: 'snapshot' }> | Readonly<{ type: 'compacted' }>;

/** One connection: its events until it breaks, which always is a retryable FisheryError. Leaving it closes it. */
async function* streamOf<Change extends Revised, Query, Request>(
  log: Pick<FollowedLog<unknown>, 'name' | 'openStream'>,
  from: number,
  silenceMs: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<StreamEvent<Change, Query, Request>, never, undefined> {
  let reached = from;
  const closing = new AbortController();
  const both = signal ? AbortSignal.any([signal, closing.signal]) : closing.signal;
  const lost = (why: string, cause?: unknown) =>
    new FisheryError(`watch of ${log.name} after revision ${reached}: ${why}`, {
      code: localCodes.connectionLost,
      retryable: true,
      ...(cause === undefined ? {} : { cause }),
    });
  try {
    const reader = (await log.openStream(from, both)).getReader();
    const parser = new SseParser();
    for (;;) {
      let silence: NodeJS.Timeout | undefined;
      // The read ends by the abort of the connection, so that nothing of it is left open behind the error.
      const tooLong = new Promise<'silence'>((resolve) => {
        silence = setTimeout(() => resolve('silence'), silenceMs);
      });
      const read = reader.read();
      const outcome = await Promise.race([read, tooLong]).finally(() => clearTimeout(silence));
      if (outcome === 'silence') {
        read.catch(() => {});
        throw lost(`nothing was heard for ${silenceMs} ms`);
      }
      if (outcome.done) throw lost('the server ended it');
      for (const event of parser.push(outcome.value)) {
        const understood = understand<Change, Query, Request>(event);
        if (!understood) continue;
        if (understood.type === 'change') reached = Math.max(reached, understood.change.revision);
        if (understood.type === 'bookmark') reached = Math.max(reached, understood.revision);
        yield understood;
      }
    }
  } catch (thrown) {
    signal?.throwIfAborted();
    if (thrown instanceof FisheryError) throw thrown;
    if (thrown instanceof MalformedEvent || thrown instanceof RangeError) throw lost(thrown.message, thrown);
    throw lost(thrown instanceof Error ? thrown.message : String(thrown), thrown);
  } finally {
    closing.abort();
  }
}

class MalformedEvent extends Error {}

/** The members that this file steers by are checked; the rest is the contract's. An event name from a newer server is skipped. */
function understand<Change, Query, Request>({
  event,
  data,
}: ServerSentEvent): StreamEvent<Change, Query, Request> | undefined {
  if (event === 'compacted') return { type: 'compacted' };
  if (event !== 'change' && event !== 'bookmark' && event !== 'query' && event !== 'request') return undefined;
  const value = parseJson(data);
  if (typeof value !== 'object' || value === null) throw new MalformedEvent(`a ${event} event without JSON`);
  if (event === 'query') return { type: 'query', query: value as Query };
  if (event === 'request') return { type: 'request', request: value as Request };
  const revision = 'revision' in value ? value.revision : undefined;
  if (typeof revision !== 'number' || !Number.isSafeInteger(revision))
    throw new MalformedEvent(`a ${event} event without a revision`);
  return event === 'bookmark' ? { type: 'bookmark', revision } : { type: 'change', change: value as Change };
}
