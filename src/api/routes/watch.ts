import { z } from 'zod';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { WatchQuery } from '../../wire/agent.ts';
import type { Context } from '../context.ts';
import { EventStream } from '../event-stream.ts';
import * as examples from '../examples.ts';
import { operation } from '../operation.ts';
import { presentChange } from '../present.ts';
import { principalOf, requireOwn } from '../principal.ts';
import { apiProblem } from '../problems.ts';
import { ById } from '../requests.ts';
import { machineOf, resource } from '../resource.ts';

export const watchRoutes = resource('watch', (app, context) => {
  app.get(
    '/v1/machines/:id/watch',
    {
      // `manual`: what the client accepts is checked here, so that a refusal is a problem document like any other.
      sse: { kind: 'manual', heartbeat: false },
      // It would be a stream that says nothing.
      exposeHeadRoute: false,
      schema: { params: ById, querystring: WatchQuery, response: { 200: z.string() } },
      config: operation({
        id: 'watchMachine',
        tag: 'agent',
        summary: 'Follow what a machine must make true, as server-sent events',
        description:
          '`change`: one thing in its new state; its id is the revision. `bookmark`: the revision reached, when there was ' +
          'nothing to tell for a while. `compacted`: the log does not reach back to where you are; take a snapshot; the ' +
          'stream ends. `query` (agents only): a question to the flow log, answered with `POST …/flow-answers`. Without ' +
          '`from` the stream begins now. A client that stops reading is cut off, and goes on from its last id.',
        answers: { 200: 'The stream. It ends when the server stops or the token is revoked.' },
        errors: ['machine_not_found', 'not_acceptable', 'too_many_watchers'],
        examples: { answers: { 200: examples.stream } },
        produces: 'text/event-stream',
      }),
    },
    async (request, reply) => {
      const { id } = request.params;
      const principal = principalOf(request);
      requireOwn(principal, { machine: id }, `machine "${id}"`);
      if (!acceptsEventStream(request.headers.accept))
        throw apiProblem(
          'not_acceptable',
          `this is text/event-stream, and the client accepts ${request.headers.accept ?? ''}`,
        );
      const from = lastEventId(request) ?? request.query.from;
      await machineOf(context, id);
      const watcher = context.watchers.open(principal);
      if (watcher === undefined)
        throw apiProblem('too_many_watchers', `${context.limits.watchers_max} event streams are open`);
      reply.sse.onClose(watcher.end);
      try {
        await stream(context, reply, {
          machine: id,
          from,
          signal: watcher.signal,
          isAgent: principal.role === 'agent',
        });
      } finally {
        watcher.close();
      }
    },
  );
});

type Watch = Readonly<{ machine: string; from: number | undefined; signal: AbortSignal; isAgent: boolean }>;

async function stream(context: Context, reply: FastifyReply, watch: Watch): Promise<void> {
  const { feed, reader, flows, limits } = context;
  const { machine, signal } = watch;
  const events = new EventStream(reply, limits);
  const newest = await reader.revision();
  // Whoever has seen more than there is followed another log: it was restored from a backup, or began anew.
  if (watch.from !== undefined && watch.from > newest) {
    await events.send({ event: 'compacted', data: { oldest_revision: newest } });
    return;
  }
  const from = watch.from ?? newest;
  const detach = watch.isAgent
    ? flows.attach(machine, (query) => events.offer({ event: 'query', data: query }))
    : () => {};
  try {
    for await (const item of feed.follow({ interest: machine, from, signal, bookmarkMs: limits.heartbeat_ms })) {
      if (item.type === 'compacted') {
        await events.send({ event: 'compacted', data: { oldest_revision: item.oldest } });
        return;
      }
      if (item.type === 'caught_up') {
        // For a client that is behind, the next event is news enough.
        // With an id of its own: a browser that reconnects then goes on from here.
        events.offer({ event: 'bookmark', id: String(item.revision), data: { revision: item.revision } });
        continue;
      }
      if (item.event.kind === 'token' || item.event.kind === 'router') continue;
      const { revision } = item.event;
      if (!(await events.send({ event: 'change', id: String(revision), data: presentChange(item.event) }))) return;
    }
  } finally {
    detach();
    // The connection is of no further use, and a server that stops would wait for it.
    if (context.stopping.aborted) reply.raw.once('finish', () => reply.raw.socket?.destroySoon());
  }
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

/** RFC 9110, section 12.5.1, as far as it matters here: the most specific range decides, and q=0 refuses. */
export function acceptsEventStream(accept: string | undefined): boolean {
  if (accept === undefined || accept.trim() === '') return true;
  const ranges = ['text/event-stream', 'text/*', '*/*'];
  const given = accept.split(',').map((part) => part.trim().toLowerCase().split(';'));
  for (const range of ranges) {
    const match = given.find(([type]) => type?.trim() === range);
    if (match !== undefined) return !match.slice(1).some((parameter) => /^\s*q\s*=\s*0(?:\.0*)?\s*$/.test(parameter));
  }
  return false;
}
