import { Attribution, AttributionHistory, AttributionHistoryQuery, AttributionQuery } from '../../wire/attribution.ts';
import { formatInstant, parseInstant } from '../../wire/instants.ts';
import { answer, ahead_s_max } from '../attribute.ts';
import { completeThrough } from '../attribution.ts';
import type { Context } from '../context.ts';
import * as examples from '../examples.ts';
import { operation } from '../operation.ts';
import { presentPastLease } from '../present.ts';
import { apiProblem } from '../problems.ts';
import { encodeCursor, pageRequest } from '../requests.ts';
import { resource } from '../resource.ts';
import { microseconds } from '../units.ts';

export const attributionRoutes = resource('attribution', (app, context) => {
  app.get(
    '/v1/attribution',
    {
      schema: { querystring: AttributionQuery, response: { 200: Attribution } },
      config: operation({
        id: 'attribute',
        tag: 'attribution',
        summary: 'Find out who had an address and port at an instant',
        description:
          'The machine is always exactly one. The holder is one where the lease was exclusive, or where the flow log of the ' +
          'machine proves it (give `remote_address` and `remote_port`); otherwise the candidates are listed as such. ' +
          'All times are half open: from the instant of the grant until before the instant at which its users were proven gone.',
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
      const { address, protocol, port, remote_address, remote_port } = query;
      const hasRemote = remote_address !== undefined && remote_port !== undefined;
      const remote = hasRemote ? { address: remote_address, port: remote_port } : null;
      return answer(context, { address, protocol, port, at, remote });
    },
  );

  app.get(
    '/v1/attribution/history',
    {
      schema: { querystring: AttributionHistoryQuery, response: { 200: AttributionHistory } },
      config: operation({
        id: 'attributionHistory',
        tag: 'attribution',
        summary: 'List who had a port, or what a holder had, within a time',
        description:
          'Either `address` and `port`, or `machine` and `holder`. Leases that somebody had at any instant from `since` until ' +
          'before `until`; those that the host refused are left out.',
        answers: { 200: 'The leases in the order of their grants, with how far the past is known.' },
        errors: [],
        examples: { answers: { 200: examples.attributionHistory } },
      }),
    },
    async ({ query }) => {
      const now = context.clock.nowUs();
      const until = query.until === undefined ? now + 1 : parseInstant(query.until);
      const since = query.since === undefined ? until - microseconds(default_history_s) : parseInstant(query.since);
      const page = await context.reader.uses({ since, until, ...subjectOf(query) }, pageRequest(query, 'instant'));
      // Read last: what was removed meanwhile is then known to be missing.
      const historySince = await context.reader.historySince();
      const names = new Set([
        ...(query.machine === undefined ? [] : [query.machine]),
        ...page.items.map(({ machine }) => machine),
      ]);
      return {
        items: page.items.map(presentPastLease),
        next: page.next === null ? null : encodeCursor(page.next),
        machines: await Promise.all([...names].map((name) => completenessOf(context, name, now))),
        history_since: historySince === null ? null : formatInstant(historySince),
      };
    },
  );
});

const default_history_s = 86_400;

/** The schema has seen to it that it is one of the two. */
function subjectOf({ address, port, protocol, machine = '', holder = '' }: AttributionHistoryQuery) {
  const isPort = address !== undefined && port !== undefined;
  return isPort ? { address, port, protocol: protocol ?? null } : { machine, holder };
}

async function completenessOf({ reader }: Context, name: string, now: number) {
  const machine = (await reader.machine(name)) ?? null;
  return { id: name, complete_through: completeThrough({ until: null }, { machine, now }) };
}
