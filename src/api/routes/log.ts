import { EventList, EventsQuery } from '../../wire/agent.ts';
import { Attribution, AttributionQuery } from '../../wire/attribution.ts';
import { formatInstant, parseInstant } from '../../wire/instants.ts';
import { asksFlowLog, attribute, type FlowLog, type Known, type Question } from '../attribution.ts';
import type { Context } from '../context.ts';
import * as examples from '../examples.ts';
import { operation } from '../operation.ts';
import { presentLogEntry } from '../present.ts';
import { apiProblem } from '../problems.ts';
import { resource } from '../resource.ts';
import { microseconds } from '../units.ts';

/** A question about an instant further ahead than clocks differ is a mistake. */
const ahead_s_max = 60;

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
      if (after > revision)
        throw apiProblem('revision_unknown', `the log ends at revision ${revision}, before ${after}`);
      const found = await context.reader.eventsAfter(after, machine ?? null, limit);
      const last = found.at(-1)?.revision;
      const reached = found.length < limit ? Math.max(revision, last ?? 0) : (last ?? after);
      return { events: found.map(presentLogEntry), next_after: reached, revision: Math.max(revision, last ?? 0) };
    },
  );

  app.get(
    '/v1/attribution',
    {
      schema: { querystring: AttributionQuery, response: { 200: Attribution } },
      config: operation({
        id: 'attribute',
        tag: 'log',
        summary: 'Find out who had an address and port at an instant',
        description:
          'The machine is always exactly one. The holder is one where the lease was exclusive, or where the flow log of the ' +
          'machine proves it (give `remote_address` and `remote_port`); otherwise the candidates are listed as such.',
        answers: { 200: 'The truth, with how far it is known.' },
        errors: ['instant_in_future'],
        examples: { answers: { 200: examples.attribution } },
      }),
    },
    async ({ query }) => {
      const now = context.clock.nowUs();
      const at = query.at === undefined ? now : parseInstant(query.at);
      if (at > now + microseconds(ahead_s_max))
        throw apiProblem('instant_in_future', `${formatInstant(at)} is after now, ${formatInstant(now)}`);
      const { remote_address, remote_port } = query;
      const question: Question = {
        address: query.address,
        protocol: query.protocol,
        port: query.port,
        at,
        remote:
          remote_address === undefined || remote_port === undefined
            ? null
            : { address: remote_address, port: remote_port },
      };
      const known = await look(context, question, now);
      return attribute(question, { ...known, flowLog: await askFlowLog(context, question, known) });
    },
  );
});

async function look({ reader }: Context, question: Question, now: number): Promise<Omit<Known, 'flowLog'>> {
  const { address, port, protocol, at } = question;
  const tenure = (await reader.tenureAt(address, port, at)) ?? null;
  if (tenure === null) return { now, tenure, machine: null, leases: [], fish: new Set() };
  const { slice, generation, machine } = tenure.tenure;
  const leases = await reader.leasesAt(slice, generation, protocol, port, at);
  const holders = await Promise.all(
    [...new Set(leases.map((lease) => lease.holder))].map((name) => reader.holder(machine, name)),
  );
  return {
    now,
    tenure,
    machine: (await reader.machine(machine)) ?? null,
    leases,
    fish: new Set(holders.flatMap((holder) => (holder?.kind === 'fish' ? [holder.name] : []))),
  };
}

async function askFlowLog(context: Context, question: Question, known: Omit<Known, 'flowLog'>): Promise<FlowLog> {
  if (known.machine === null || !asksFlowLog(question, known)) return { status: 'not_asked' };
  const answer = await context.flows.ask(known.machine.id, {
    protocol: question.protocol,
    address: question.address,
    port: question.port,
    remote_address: question.remote?.address ?? null,
    remote_port: question.remote?.port ?? null,
    at: formatInstant(question.at),
  });
  return answer === undefined ? { status: 'unreachable' } : { status: 'answered', answer };
}
