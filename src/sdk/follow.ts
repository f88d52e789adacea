import type { Change, Desired, FlowQuery } from '../wire/agent.ts';
import { backoffMs, pause } from './backoff.ts';
import type { FisheryClient } from './client.ts';
import { FisheryError, localCodes, parseJson } from './errors.ts';
import { SseParser, type ServerSentEvent } from './sse.ts';

export type Followed =
  | Readonly<{ type: 'snapshot'; desired: Desired }>
  | Readonly<{ type: 'change'; change: Change }>
  | Readonly<{ type: 'bookmark'; revision: number }>
  | Readonly<{ type: 'query'; query: FlowQuery }>;

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

const waits = { firstMs: 200, maxMs: 5_000 } as const;

/**
 * What a machine must make true, and every change of it, in order, each once: a snapshot, then the changes after it,
 * over as many connections as it takes. A lost connection is resumed from the last revision that was seen; when the
 * server no longer has the changes since then, a new snapshot comes instead.
 *
 * Runs until `signal` aborts (then it returns) or until the server refuses for good (no such machine, token revoked):
 * then it throws that FisheryError.
 */
export async function* follow(
  client: FisheryClient,
  machine: string,
  options: FollowOptions = {},
): AsyncGenerator<Followed, void, undefined> {
  const { signal, silenceMs = 30_000, onTrouble = () => {}, random = Math.random } = options;
  let revision = options.from;
  let failures = 0;
  try {
    for (;;) {
      try {
        if (revision === undefined) {
          const desired = await client.agent.desired(machine, signal ? { signal } : {});
          revision = desired.revision;
          yield { type: 'snapshot', desired };
        }
        for await (const event of streamOf(client, machine, revision, silenceMs, signal)) {
          failures = 0;
          if (event.type === 'compacted') {
            revision = undefined;
            break;
          }
          if (event.type === 'query') {
            yield event;
            continue;
          }
          const reached = event.type === 'change' ? event.change.revision : event.revision;
          // A server may repeat what it sent just before the connection broke; a consumer must not see it twice.
          if (event.type === 'change' ? reached <= revision : reached < revision) continue;
          revision = reached;
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

type StreamEvent = Exclude<Followed, { type: 'snapshot' }> | Readonly<{ type: 'compacted' }>;

/** One connection: its events until it breaks, which always is a retryable FisheryError. Leaving it closes it. */
async function* streamOf(
  client: FisheryClient,
  machine: string,
  from: number,
  silenceMs: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<StreamEvent, never, undefined> {
  const closing = new AbortController();
  const both = signal ? AbortSignal.any([signal, closing.signal]) : closing.signal;
  const lost = (why: string, cause?: unknown) =>
    new FisheryError(`watch of ${machine} after revision ${from}: ${why}`, {
      code: localCodes.connectionLost,
      retryable: true,
      ...(cause === undefined ? {} : { cause }),
    });
  try {
    const reader = (await client.agent.watch(machine, from, both)).getReader();
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
        const understood = understand(event);
        if (understood) yield understood;
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
function understand({ event, data }: ServerSentEvent): StreamEvent | undefined {
  if (event === 'compacted') return { type: 'compacted' };
  if (event !== 'change' && event !== 'bookmark' && event !== 'query') return undefined;
  const value = parseJson(data);
  if (typeof value !== 'object' || value === null) throw new MalformedEvent(`a ${event} event without JSON`);
  if (event === 'query') return { type: 'query', query: value as FlowQuery };
  const revision = 'revision' in value ? value.revision : undefined;
  if (typeof revision !== 'number' || !Number.isSafeInteger(revision))
    throw new MalformedEvent(`a ${event} event without a revision`);
  return event === 'bookmark' ? { type: 'bookmark', revision } : { type: 'change', change: value as Change };
}
