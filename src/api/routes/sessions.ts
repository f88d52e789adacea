import { z } from 'zod';
import { SessionId } from '../../wire/primitives.ts';
import { BrokerOf } from '../../wire/broker.ts';
import * as wire from '../../wire/sessions.ts';
import * as examples from '../examples.ts';
import { operation } from '../operation.ts';
import { brokerAskedFor } from '../plugins/forwarding.ts';
import { page, presentReportedSession, presentSession } from '../present.ts';
import { principalOf, requireOwn, scopeOf } from '../principal.ts';
import { leaseProblem } from '../problems.ts';
import { defined, numberOf, pageRequest } from '../requests.ts';
import { isDryRun, resource, run } from '../resource.ts';
import { microseconds } from '../units.ts';

const BySessionId = z.strictObject({ id: SessionId });

export const sessionRoutes = resource('sessions', (app, context) => {
  app.post(
    '/v1/sessions',
    {
      schema: { body: wire.SessionOpen, response: { 201: wire.Session } },
      config: operation({
        id: 'openSession',
        forwarded: true,
        tag: 'sessions',
        summary: 'Open a session for a holder',
        description:
          'A holder opens its own; an agent opens those of the fish on its machine. Keep it alive at a third of its TTL: ' +
          'when it ends, all its leases end with it.',
        answers: { 201: 'The session.' },
        errors: [
          'machine_not_found',
          'machine_not_active',
          'holder_not_found',
          'holder_sessions_exceeded',
          'replay_over',
        ],
        dryRun: true,
        examples: { body: examples.sessionOpen, answers: { 201: examples.session } },
      }),
    },
    async (request, reply) => {
      const { machine, holder, ttl_s } = request.body;
      const scope = scopeOf(principalOf(request));
      const ttlUs = microseconds(ttl_s);
      const session = await run(context, request, { kind: 'openSession', scope, machine, holder, ttlUs });
      // What was opened while the guard shut is of no use to anybody; what is only told again stays.
      const late = isDryRun(request) ? undefined : context.callers?.refusal('openSession');
      if (late) {
        if (!request.isReplay)
          await context.leases.execute({ kind: 'endSession', scope, id: session.id, ending: 'released' });
        throw late;
      }
      return reply.code(201).send(presentSession(session));
    },
  );

  app.get(
    '/v1/sessions',
    {
      schema: { querystring: wire.SessionListQuery, response: { 200: wire.SessionPage } },
      config: operation({
        id: 'listSessions',
        tag: 'sessions',
        summary: 'List sessions',
        answers: { 200: 'One page of sessions that match every filter given.' },
        errors: [],
        examples: { answers: { 200: examples.pageWith(examples.session) } },
      }),
    },
    async ({ query: { allocator, limit, cursor, select_machine, machine, ...fields } }) => {
      const pageAsked = pageRequest({ limit, cursor }, 'number');
      // A broker asked for what machines open is asked for its own.
      if (allocator === 'machine' && !context.callers) {
        // The schema has seen to it that there is a machine.
        const found = await context.reader.reportedSessions(machine ?? '', defined(fields), pageAsked);
        return page(found, presentReportedSession);
      }
      const filter = defined({ ...fields, machine, machineLabels: select_machine });
      return page(await context.reader.sessions(filter, pageAsked), presentSession);
    },
  );

  app.get(
    '/v1/sessions/:id',
    {
      schema: { params: BySessionId, querystring: BrokerOf, response: { 200: wire.Session } },
      config: operation({
        id: 'getSession',
        tag: 'sessions',
        summary: 'Read one session',
        description: 'Holders read their own, agents those of their machine.',
        answers: { 200: 'The session.' },
        errors: ['session_not_found'],
        examples: { answers: { 200: examples.session } },
      }),
    },
    async (request) => {
      const id = numberOf(request.params.id);
      const broker = context.callers ? undefined : brokerAskedFor(request);
      if (broker !== undefined) {
        const reported = await context.reader.reportedSession(broker, id);
        if (reported === undefined)
          throw leaseProblem({ code: 'session_not_found', session: id }, context.clock.nowUs());
        requireOwn(principalOf(request), reported, request.params.id);
        return presentReportedSession(reported);
      }
      const session = await context.reader.session(id);
      if (session === undefined) throw leaseProblem({ code: 'session_not_found', session: id }, context.clock.nowUs());
      requireOwn(principalOf(request), session, request.params.id);
      return presentSession(session);
    },
  );

  app.post(
    '/v1/sessions/:id/keepalive',
    {
      schema: { params: BySessionId, response: { 200: wire.Session } },
      config: operation({
        id: 'keepSession',
        forwarded: true,
        repeatable: true,
        tag: 'sessions',
        summary: 'Keep a session alive for another TTL',
        description: 'Late is late: after `expires_at` the session is over, also when nobody has noticed yet.',
        answers: { 200: 'The session with its new `expires_at`, which is durable.' },
        errors: ['session_not_found', 'session_ended'],
        dryRun: true,
        examples: { answers: { 200: examples.session } },
      }),
    },
    async (request) =>
      presentSession(
        await run(context, request, {
          kind: 'keepSession',
          scope: scopeOf(principalOf(request)),
          id: numberOf(request.params.id),
        }),
      ),
  );

  app.delete(
    '/v1/sessions/:id',
    {
      schema: { params: BySessionId, response: { 200: wire.Session } },
      config: operation({
        id: 'endSession',
        forwarded: true,
        tag: 'sessions',
        summary: 'End a session and all its leases',
        description: '`released` when its holder or agent does it, `revoked` when an operator does.',
        answers: { 200: 'The session, ended. Its leases are `ending` until their ports are proven unused.' },
        errors: ['session_not_found', 'session_ended'],
        dryRun: true,
        examples: { answers: { 200: examples.endedSession } },
      }),
    },
    async (request) => {
      const principal = principalOf(request);
      const session = await run(context, request, {
        kind: 'endSession',
        scope: scopeOf(principal),
        id: numberOf(request.params.id),
        ending: principal.role === 'operator' ? 'revoked' : 'released',
      });
      return presentSession(session);
    },
  );
});
