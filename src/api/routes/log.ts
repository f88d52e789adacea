import { EventList, EventsQuery } from '../../wire/agent.ts';
import * as examples from '../examples.ts';
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
        description: 'In the order of their revisions, each with the whole new state of one thing.',
        answers: { 200: 'Changes after the given revision, oldest first.' },
        errors: ['compacted', 'revision_unknown'],
        examples: { answers: { 200: examples.eventList } },
      }),
    },
    async ({ query: { after, limit, machine } }) => {
      const oldest = await context.reader.oldestRevision();
      if (after + 1 < oldest)
        throw apiProblem('compacted', `the log begins at revision ${oldest}; after ${after} something is missing`);
      // Read before the events: what comes in between is left for the next call, and nothing is passed over.
      const revision = await context.reader.revision();
      // Whoever has seen more than there is would hear nothing until the log has come so far, and then miss what was before.
      if (after > revision || context.epochs.isLost(after))
        throw leaseProblem({ code: 'revision_unknown', revision: after, newest: revision }, context.clock.nowUs());
      const found = await context.reader.eventsAfter(after, machine ?? null, limit);
      const last = found.at(-1)?.revision;
      const reached = found.length < limit ? Math.max(revision, last ?? 0) : (last ?? after);
      return { events: found.map(presentLogEntry), next_after: reached, revision: Math.max(revision, last ?? 0) };
    },
  );
});
