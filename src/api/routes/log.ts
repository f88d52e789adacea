import { z } from 'zod';
import type { Event } from '../../leases/model.ts';
import { EventList, EventsQuery, EventsWatchQuery } from '../../wire/agent.ts';
import type { Context } from '../context.ts';
import * as examples from '../examples.ts';
import { streamLog } from '../log-stream.ts';
import { operation } from '../operation.ts';
import { presentLogEntry } from '../present.ts';
import { apiProblem, leaseProblem } from '../problems.ts';
import { resource } from '../resource.ts';

export const logRoutes = resource('log', (app, context) => {
  app.get(
    '/v1/events',
    {
      schema: { querystring: EventsQuery, response: { 200: EventList } },
      config: operation({
        id: 'listEvents',
        tag: 'log',
        summary: 'Read the log of changes',
        description:
          'In the order of their revisions, each with the whole new state of one thing. A page may be short, or empty, before ' +
          'the log ends: where few changes are of the kinds asked for. It ends where `next_after` is `revision`.',
        answers: { 200: 'Changes after the given revision, oldest first.' },
        errors: ['compacted', 'revision_unknown'],
        examples: { answers: { 200: examples.eventList } },
      }),
    },
    async ({ query }) => {
      const { after } = query;
      // Read before the events: what comes in between is left for the next call, and nothing is passed over.
      const revision = await context.reader.revision();
      // Whoever has seen more than there is would hear nothing until the log has come so far, and then miss what was before.
      if (after > revision || context.epochs.isLost(after))
        throw leaseProblem({ code: 'revision_unknown', revision: after, newest: revision }, context.clock.nowUs());
      const { events, reached, isAll } = await pageOf(context, query);
      // Asked after the events were read: had the log been compacted under them, there could be a hole in front.
      const oldest = await context.reader.oldestRevision();
      if (after + 1 < oldest)
        throw apiProblem('compacted', `the log begins at revision ${oldest}; after ${after} something is missing`);
      return {
        events: events.map(presentLogEntry),
        next_after: isAll ? Math.max(revision, reached) : reached,
        revision: Math.max(revision, reached),
      };
    },
  );

  app.get(
    '/v1/events/watch',
    {
      sse: { kind: 'manual', heartbeat: false },
      exposeHeadRoute: false,
      schema: { querystring: EventsWatchQuery, response: { 200: z.string() } },
      config: operation({
        id: 'watchEvents',
        tag: 'log',
        summary: 'Follow the log of changes, as server-sent events',
        description:
          '`change`: what the log has, as `GET /v1/events` shows it; its id is the revision. `bookmark`: the revision reached, ' +
          'when everything so far was told, and when there was nothing to tell for a while. `compacted`: the log does not ' +
          'reach back to where you are, or lost what you have seen; read anew what you need; the stream ends. Without `after` ' +
          'the stream begins now. A client that stops reading is cut off, and goes on from its last id.',
        answers: { 200: 'The stream. It ends when the server stops or the token is revoked.' },
        errors: ['not_acceptable', 'too_many_watchers'],
        examples: { answers: { 200: examples.stream } },
        produces: 'text/event-stream',
      }),
    },
    async (request, reply) => {
      const { after, machine, kind } = request.query;
      const present = (event: Event) => (kind?.has(event.kind) === false ? undefined : presentLogEntry(event));
      const stream = { interest: machine ?? null, from: after, present, presentEpoch: present };
      await streamLog(context, request, reply, () => stream);
    },
  );
});

/** Entries that one page looks at, however rare what is wanted is among them. */
const entries_looked_at_max = 10_000;
/** Entries read at once, at least, where not all of them are wanted. */
const entries_per_read_min = 500;

/** What is wanted after a revision, how far the log was looked through for it, and whether that was all of it. */
async function pageOf(
  { reader }: Context,
  { after, limit, machine, kind }: EventsQuery,
): Promise<Readonly<{ events: readonly Event[]; reached: number; isAll: boolean }>> {
  const perRead = kind === undefined ? limit : Math.max(limit, entries_per_read_min);
  const events: Event[] = [];
  let reached = after;
  for (let looked = 0; looked < entries_looked_at_max;) {
    const read = await reader.eventsAfter(reached, machine ?? null, perRead);
    for (const event of read) {
      reached = event.revision;
      if (kind?.has(event.kind) !== false) events.push(event);
      if (events.length === limit) return { events, reached, isAll: false };
    }
    if (read.length < perRead) return { events, reached, isAll: true };
    looked += read.length;
  }
  return { events, reached, isAll: false };
}
