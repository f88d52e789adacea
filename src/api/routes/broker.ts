import { z } from 'zod';
import * as wire from '../../wire/broker.ts';
import { positionOf } from '../../leases/granted-reports.ts';
import * as examples from '../examples.ts';
import { operation } from '../operation.ts';
import { principalOf, requireOwn } from '../principal.ts';
import { apiProblem } from '../problems.ts';
import { ById } from '../requests.ts';
import { resource, run } from '../resource.ts';
import { grantedReportOf } from '../wire-granted.ts';

/** What the broker of a machine tells: what it granted by itself, and its answers to requests that were forwarded to it. */
export const brokerRoutes = resource('broker', (app, context) => {
  app.post(
    '/v1/machines/:id/granted',
    {
      schema: { params: ById, body: wire.GrantedReport, response: { 200: wire.GrantedAnswer } },
      config: operation({
        id: 'reportGranted',
        repeatable: true,
        tag: 'agent',
        summary: 'Report what the broker of a machine granted and ended by itself',
        description:
          'In slices whose allocator is the machine. Reports follow one another: `after` is the `through` of the one before, ' +
          'and one that does not follow changes nothing (`report_gap`). The same report again is the same answer. What the ' +
          'server was told it shows, and names in attribution; it never grants, expires or frees there.',
        answers: { 200: 'How far everything is known now, and which entries cannot be.' },
        errors: ['machine_not_found', 'machine_taken', 'report_gap'],
        dryRun: true,
        examples: { body: examples.grantedReport, answers: { 200: examples.grantedAnswer } },
      }),
    },
    async (request) => {
      const { id } = request.params;
      requireOwn(principalOf(request), { machine: id }, `machine "${id}"`);
      const { broker, rejected } = await run(context, request, {
        kind: 'reportGranted',
        ...grantedReportOf(id, request.body),
      });
      const { through, page } = positionOf(broker);
      return {
        broker_epoch: broker.epoch,
        through,
        page,
        rejected: rejected.map(({ lease, code, detail }) => ({ item: `lease-${lease}`, code, detail })),
      };
    },
  );

  app.post(
    '/v1/machines/:id/answers',
    {
      schema: { params: ById, body: wire.ForwardedAnswer, response: { 204: z.void() } },
      config: operation({
        id: 'answerRequest',
        repeatable: true,
        tag: 'agent',
        summary: 'Answer a request that was forwarded to the broker of the machine',
        description: 'Requests come as `request` events of the stream; `id` is theirs.',
        answers: { 204: 'Passed on to whoever asked.' },
        errors: ['request_over'],
        examples: { body: examples.forwardedAnswer, answers: {} },
      }),
    },
    async (request, reply) => {
      const { id } = request.params;
      requireOwn(principalOf(request), { machine: id }, `machine "${id}"`);
      if (!context.forwarding.answer(id, request.body))
        throw apiProblem('request_over', `nobody waits for an answer to ${JSON.stringify(request.body.id)}`);
      return reply.code(204).send();
    },
  );
});
