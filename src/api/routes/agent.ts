import * as wire from '../../wire/agent.ts';
import { formatInstant } from '../../wire/instants.ts';
import { z } from 'zod';
import * as examples from '../examples.ts';
import { operation } from '../operation.ts';
import { presentDesired } from '../present.ts';
import { principalOf, refuseInDoubt, requireOwn } from '../principal.ts';
import { apiProblem, leaseProblem } from '../problems.ts';
import { ById, numberOf } from '../requests.ts';
import { resource, run } from '../resource.ts';
import { seconds } from '../units.ts';

/** What the agent of a machine reads and reports. Its event stream is in watch.ts. */
export const agentRoutes = resource('agent', (app, context) => {
  app.get(
    '/v1/machines/:id/desired',
    {
      schema: { params: ById, response: { 200: wire.Desired } },
      config: operation({
        id: 'getDesired',
        tag: 'agent',
        summary: 'Take a snapshot of what a machine must make true',
        description: 'One consistent state at `revision`; the event stream goes on from there.',
        answers: { 200: 'Everything that the agent of this machine must make true.' },
        errors: ['machine_not_found', 'read_only_epoch'],
        examples: { answers: { 200: examples.desired } },
      }),
    },
    async (request) => {
      const { id } = request.params;
      requireOwn(principalOf(request), { machine: id }, `machine "${id}"`);
      await refuseInDoubt(principalOf(request), context.epochs);
      const desired = await context.reader.desired(id);
      if (desired === undefined) throw leaseProblem({ code: 'machine_not_found', machine: id }, context.clock.nowUs());
      return presentDesired(desired);
    },
  );

  app.post(
    '/v1/machines/:id/applied',
    {
      schema: { params: ById, body: wire.Applied, response: { 200: wire.AppliedAnswer } },
      config: operation({
        id: 'reportApplied',
        repeatable: true,
        tag: 'agent',
        summary: 'Report what was made true on the machine',
        description:
          'Each report stands alone: one that names a stale token is listed in the answer and moves nothing, the others ' +
          'count. A claim that the kernel refused becomes a blocked extent; `clear` says that its stranger is gone. With a ' +
          '`boot_id` that is not the one whose keepalives are answered nothing counts (`machine_taken`).',
        answers: { 200: 'Which reports were rejected, and why.' },
        errors: ['machine_not_found', 'machine_taken', 'revision_unknown'],
        dryRun: true,
        examples: { body: examples.applied, answers: { 200: examples.appliedAnswer } },
      }),
    },
    async (request) => {
      const { id } = request.params;
      const { boot_id, revision, leases, slices, clear = [] } = request.body;
      requireOwn(principalOf(request), { machine: id }, `machine "${id}"`);
      const answer = await run(context, request, {
        kind: 'report',
        machine: id,
        bootId: boot_id,
        revision,
        leases: leases.map((report) => ({ ...report, lease: numberOf(report.lease) })),
        slices: slices.map((report) => ({ ...report, slice: numberOf(report.slice) })),
        clear: clear.map((report) => ({ ...report, slice: numberOf(report.slice) })),
      });
      return { revision: answer.revision, rejected: [...answer.rejected] };
    },
  );

  app.post(
    '/v1/machines/:id/keepalive',
    {
      schema: { params: ById, body: wire.AgentKeepalive, response: { 200: wire.AgentKeepaliveAnswer } },
      config: operation({
        id: 'keepMachine',
        repeatable: true,
        tag: 'agent',
        summary: 'Say that the agent is alive',
        description:
          'Only an answered keepalive keeps the egress guard of the host open; the fencing horizon counts from when it was ' +
          'sent. One boot of a host has the machine: another is refused (`machine_taken`) until the guard of the one that was ' +
          'heard last has shut for certain.',
        answers: { 200: 'How far the log is, and how long the guard may stay open.' },
        errors: [
          'machine_not_found',
          'machine_taken',
          'machine_behind',
          'machine_lost',
          'revision_unknown',
          'read_only_epoch',
        ],
        dryRun: true,
        examples: { body: examples.agentKeepalive, answers: { 200: examples.agentKeepaliveAnswer } },
      }),
    },
    async (request) => {
      const { id } = request.params;
      const { boot_id, version, applied_revision } = request.body;
      requireOwn(principalOf(request), { machine: id }, `machine "${id}"`);
      const answer = await run(context, request, {
        kind: 'agentKeepalive',
        machine: id,
        bootId: boot_id,
        version,
        appliedRevision: applied_revision,
      });
      return {
        epoch: context.epochs.current.id,
        revision: answer.revision,
        fence_s: seconds(answer.fenceUs),
        now: formatInstant(context.clock.nowUs()),
      };
    },
  );

  app.post(
    '/v1/machines/:id/flow-answers',
    {
      schema: { params: ById, body: wire.FlowAnswer, response: { 204: z.void() } },
      config: operation({
        id: 'answerFlowQuery',
        repeatable: true,
        tag: 'agent',
        summary: 'Answer a question about the flow log',
        description: 'Questions come as `query` events of the stream; `id` is theirs.',
        answers: { 204: 'Passed on to whoever asked.' },
        errors: ['flow_query_over'],
        examples: { body: examples.flowAnswer, answers: {} },
      }),
    },
    async (request, reply) => {
      const { id } = request.params;
      requireOwn(principalOf(request), { machine: id }, `machine "${id}"`);
      if (!context.flows.answer(id, request.body))
        throw apiProblem('flow_query_over', `nobody waits for an answer to ${JSON.stringify(request.body.id)}`);
      return reply.code(204).send();
    },
  );
});
