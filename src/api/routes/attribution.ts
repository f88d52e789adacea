import type { FastifyTypeProviderDefault } from 'fastify';
import { Readable } from 'node:stream';
import {
  Attribution,
  AttributionHistory,
  AttributionHistoryQuery,
  AttributionQuery,
  BulkText,
} from '../../wire/attribution.ts';
import { formatInstant, parseInstant } from '../../wire/instants.ts';
import { answer, ahead_s_max, questionOf } from '../attribute.ts';
import { completeThrough } from '../attribution.ts';
import { answerAll } from '../bulk-attribution.ts';
import { csv, ndjson, type BulkFormat } from '../bulk-lines.ts';
import type { Context } from '../context.ts';
import type { Tenure } from '../../leases/model.ts';
import * as examples from '../examples.ts';
import { operation } from '../operation.ts';
import { presentPastLease } from '../present.ts';
import { apiProblem } from '../problems.ts';
import { encodeCursor, pageRequest } from '../requests.ts';
import { resource } from '../resource.ts';
import { microseconds } from '../units.ts';

/** How lists come and go, by media type. */
const formats: Readonly<Record<string, BulkFormat>> = { 'text/csv': csv, 'application/x-ndjson': ndjson };
/** Some two hundred thousand questions. They are held while they are answered, so only so many lists at a time. */
const bulk_bytes_max = 16_777_216;
const bulk_lists_max = 4;
const bulk_retry_s = 5;

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
      return answer(context, questionOf(query, at));
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
      const of = { since, until, ...subjectOf(query) };
      const page = await context.reader.uses(of, pageRequest(query, 'instant'));
      const own = await context.reader.machineAllocated(of, machine_allocated_max);
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
        machine_allocated: (await untold(context, own, of)).map(({ machine, slice, generation, from, until }) => ({
          ...{ machine, slice: `slice-${slice}`, generation, from: formatInstant(from) },
          until: until === null ? null : formatInstant(until),
        })),
        history_since: historySince === null ? null : formatInstant(historySince),
      };
    },
  );

  // In a scope of its own: here bodies are text, everywhere else they are JSON.
  app.register(async (scope) => {
    scope.removeAllContentTypeParsers();
    scope.addContentTypeParser<string>(Object.keys(formats), { parseAs: 'string' }, (_, body, done) =>
      done(null, body),
    );
    let lists = 0;
    scope.withTypeProvider<FastifyTypeProviderDefault>().post<{ Body: string; Reply: Readable }>(
      '/v1/attribution/bulk',
      {
        bodyLimit: bulk_bytes_max,
        schema: { body: BulkText, response: { 200: BulkText } },
        config: operation({
          id: 'attributeBulk',
          tag: 'attribution',
          summary: 'Find out who had many addresses and ports',
          description:
            'A list of questions as CSV (its first line names the columns: `address`, `protocol`, `port`, `at`, and where known ' +
            '`remote_address`, `remote_port` and a `ref` of your own, in any order) or as NDJSON (an object with the same keys in ' +
            'each line). The answer is a list of the same kind with one line for each question, in their order, under the number ' +
            'of its line and its `ref`; it begins before the last question is looked at. A line that cannot be answered says why ' +
            'in its place (`error`: a code of this API, `detail`) and spoils no other. In NDJSON an answer has the fields of a ' +
            `single one. A list has at most ${bulk_bytes_max} bytes, a line 4096 characters and no line break in a field; ` +
            `${bulk_lists_max} lists are answered at a time.`,
          answers: { 200: 'The answers, line by line. Fewer lines than questions: it was cut off.' },
          errors: ['overloaded'],
          repeatable: true,
          consumes: Object.keys(formats),
          produces: 'text/csv',
          alternatives: { 'application/x-ndjson': examples.bulkAnswersNdjson },
          examples: { body: examples.bulkQuestions, answers: { 200: examples.bulkAnswers } },
        }),
      },
      async (request, reply) => {
        const type = (request.headers['content-type'] ?? '').split(';', 1)[0]?.trim().toLowerCase() ?? '';
        const format = formats[type];
        if (format === undefined)
          throw apiProblem('unsupported_media_type', `${type} is none of ${Object.keys(formats).join(', ')}`);
        if (lists >= bulk_lists_max)
          throw apiProblem('overloaded', `${lists} lists are being answered`, { retryAfterS: bulk_retry_s });
        const answers = Readable.from(answerAll(context, format, format.read(request.body)), { objectMode: false });
        lists++;
        answers.once('close', () => lists--);
        return reply.type(`${type}; charset=utf-8`).send(answers);
      },
    );
  });
});

const default_history_s = 86_400;
const machine_allocated_max = 100;

/** The schema has seen to it that it is one of the two. */
function subjectOf({ address, port, protocol, machine = '', holder = '' }: AttributionHistoryQuery) {
  const isPort = address !== undefined && port !== undefined;
  return isPort ? { address, port, protocol: protocol ?? null } : { machine, holder };
}

async function completenessOf({ reader }: Context, name: string, now: number) {
  const machine = (await reader.machine(name)) ?? null;
  const tenure = { until: null, allocator: 'server' } as const;
  return { id: name, complete_through: completeThrough(tenure, { machine, broker: null, now }, now) };
}

/** When machines granted themselves without having told to whom: of each tenure what is before and after their reports. */
async function untold(
  { reader }: Context,
  tenures: readonly Tenure[],
  { since, until }: Readonly<{ since: number; until: number }>,
): Promise<readonly Tenure[]> {
  const machines = [...new Set(tenures.map(({ machine }) => machine))];
  const found = await Promise.all(machines.map(async (name) => [name, await reader.broker(name)] as const));
  const brokers = new Map(found);
  return tenures.flatMap((tenure) => {
    const broker = brokers.get(tenure.machine);
    if (!broker || broker.completeSince >= broker.asOf) return [tenure];
    const end = tenure.until ?? Infinity;
    const pieces = [
      { ...tenure, from: Math.max(tenure.from, broker.asOf) },
      { ...tenure, until: end <= broker.completeSince ? tenure.until : broker.completeSince },
    ];
    return pieces.filter((piece) => {
      const over = piece.until ?? Infinity;
      return piece.from < over && piece.from < until && over > since;
    });
  });
}
