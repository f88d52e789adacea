import type { FastifyReply, FastifyRequest } from 'fastify';
import { isLostTo, type Event, type Interest } from '../leases/model.ts';
import { weightOf } from './accept.ts';
import type { Context } from './context.ts';
import { EventStream } from './event-stream.ts';
import { principalOf, refuseInDoubt } from './principal.ts';
import { apiProblem } from './problems.ts';
import { seconds } from './units.ts';

type EpochEvent = Extract<Event, { kind: 'epoch' }>;

export type LogStream = Readonly<{
  interest: Interest;
  /** Changes after this revision; undefined: from now on. The header Last-Event-ID wins over it. */
  from: number | undefined;
  /** What the client gets to see of an event: undefined is nothing, `compacted` is that it has to take a snapshot. */
  present: (event: Exclude<Event, EpochEvent>) => unknown;
  /** The same of an epoch, for who reads the log itself; for others, who know a state by it, the state has to be taken anew. */
  presentEpoch?: (event: EpochEvent) => unknown;
  /** Called when the stream is open; what it returns is called when it is over. */
  attach?: (events: EventStream) => () => void;
}>;

/** Answers a request with the log from some revision on, as server-sent events, until either side ends it. */
export async function streamLog(
  context: Context,
  request: FastifyRequest,
  reply: FastifyReply,
  open: () => Promise<LogStream> | LogStream,
): Promise<void> {
  const { accept } = request.headers;
  if (weightOf(accept, 'text/event-stream') === 0)
    throw apiProblem('not_acceptable', `this is text/event-stream, and the client accepts ${accept ?? ''}`);
  const seen = lastEventId(request);
  const stream = await open();
  const principal = principalOf(request);
  await refuseInDoubt(principal, context.epochs);
  const watcher = context.watchers.open(principal);
  if (watcher === undefined) {
    const own = context.watchers.countOf(principal.token);
    const isOwn = own >= context.watchers.maxOf(principal);
    const whose = isOwn ? `${own} event streams of this token` : `${context.limits.watchers_max} event streams`;
    throw apiProblem('too_many_watchers', `${whose} are open`);
  }
  reply.sse.onClose(watcher.end);
  try {
    await send(context, reply, { ...stream, from: seen ?? stream.from }, watcher.signal);
  } finally {
    watcher.close();
  }
}

async function send(context: Context, reply: FastifyReply, stream: LogStream, signal: AbortSignal): Promise<void> {
  const { feed, reader, limits, clock, instruments } = context;
  const events = new EventStream(reply, limits);
  const newest = await reader.revision();
  // Whoever has seen what is not there followed another log: it was restored from a backup, or began anew.
  if (stream.from !== undefined && (stream.from > newest || context.epochs.isLost(stream.from))) {
    await events.send({ event: 'compacted', data: { oldest_revision: newest } });
    return;
  }
  const from = stream.from ?? newest;
  // What happened while the client was away says nothing about how fast it is told.
  let isLive = false;
  let reached = from;
  const detach = stream.attach?.(events) ?? (() => {});
  try {
    const { interest } = stream;
    for await (const item of feed.follow({ interest, from, signal, bookmarkMs: limits.heartbeat_ms })) {
      if (item.type === 'compacted') {
        await events.send({ event: 'compacted', data: { oldest_revision: item.oldest } });
        return;
      }
      if (item.type === 'caught_up') {
        reached = item.revision;
        // With an id of its own: a browser that reconnects then goes on from here.
        const bookmark = { event: 'bookmark', id: String(reached), data: { revision: reached } };
        // That it has caught up is what a client may wait for; later, the next event is news enough for one that is behind.
        if (isLive) events.offer(bookmark);
        else if (!(await events.send(bookmark))) return;
        isLive = true;
        continue;
      }
      const { event } = item;
      const { revision } = event;
      const data = event.kind === 'epoch' ? ofEpoch(stream, event, reached) : await stream.present(event);
      reached = revision;
      if (data === undefined) continue;
      if (data === 'compacted') {
        await events.send({ event: 'compacted', data: { oldest_revision: revision } });
        return;
      }
      if (!(await events.send({ event: 'change', id: String(revision), data }))) return;
      if (isLive) instruments.watchDelay(Math.max(0, seconds(clock.nowUs() - item.event.at)));
    }
  } finally {
    detach();
    // The connection is of no further use, and a server that stops would wait for it.
    if (context.stopping.aborted) reply.raw.once('finish', () => reply.raw.socket?.destroySoon());
  }
}

function ofEpoch({ presentEpoch }: LogStream, event: EpochEvent, reached: number): unknown {
  // What was followed so far may be of a log that is lost; the snapshot is of this one. Its confirmation is no change.
  if (presentEpoch === undefined) return event.epoch.from === event.revision ? 'compacted' : undefined;
  return isLostTo(event.epoch, reached) ? 'compacted' : presentEpoch(event);
}

function lastEventId(request: FastifyRequest): number | undefined {
  const header = request.headers['last-event-id'];
  if (header === undefined || header === '') return undefined;
  if (typeof header === 'string' && /^\d{1,15}$/.test(header)) return Number(header);
  const message = 'must be the revision of an event';
  throw apiProblem('validation_failed', `header.Last-Event-ID: ${message}`, {
    errors: [{ path: 'header.Last-Event-ID', message }],
  });
}
