import { z } from 'zod';
import { WatchQuery } from '../../wire/agent.ts';
import type { Context } from '../context.ts';
import type { EventStream } from '../event-stream.ts';
import * as examples from '../examples.ts';
import { streamLog } from '../log-stream.ts';
import { operation } from '../operation.ts';
import { presentChange } from '../present.ts';
import { principalOf, requireOwn } from '../principal.ts';
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
          'stream ends. `query` (agents only): a question to the flow log, answered with `POST …/flow-answers`. ' +
          '`request` (agents only): what the broker of the machine is to carry out, answered with `POST …/answers`. Without ' +
          '`from` the stream begins now. A client that stops reading is cut off, and goes on from its last id.',
        answers: { 200: 'The stream. It ends when the server stops or the token is revoked.' },
        errors: ['machine_not_found', 'read_only_epoch', 'not_acceptable', 'too_many_watchers'],
        examples: { answers: { 200: examples.stream } },
        produces: 'text/event-stream',
      }),
    },
    async (request, reply) => {
      const { id } = request.params;
      const principal = principalOf(request);
      requireOwn(principal, { machine: id }, `machine "${id}"`);
      await streamLog(context, request, reply, async () => {
        await machineOf(context, id);
        return {
          interest: id,
          from: request.query.from,
          // Neither is ever a machine's business.
          present: (event) => (event.kind === 'token' || event.kind === 'router' ? undefined : presentChange(event)),
          ...(principal.role === 'agent' ? { attach: (events) => attach(context, id, events) } : {}),
        };
      });
    },
  );
});

/** What the agent is asked comes over its stream. */
function attach({ flows, forwarding }: Context, machine: string, events: EventStream): () => void {
  const detach = [
    flows.attach(machine, (query) => events.offer({ event: 'query', data: query })),
    forwarding.attach(machine, (request) => events.offer({ event: 'request', data: request })),
  ];
  return () => {
    for (const one of detach) one();
  };
}
