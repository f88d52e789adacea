import { z } from 'zod';
import type { Revocation } from '../../leases/model.ts';
import * as wire from '../../wire/revocations.ts';
import * as examples from '../examples/revocations.ts';
import { pageWith } from '../examples.ts';
import { operation } from '../operation.ts';
import { page, presentRevocation } from '../present.ts';
import { leaseProblem } from '../problems.ts';
import { defined, numberOf, pageRequest } from '../requests.ts';
import { resource, run } from '../resource.ts';
import { microseconds } from '../units.ts';

export const revocationRoutes = resource('revocations', (app, context) => {
  const counted = async (revocation: Revocation) =>
    presentRevocation(revocation, await context.reader.reportedLeft(revocation));

  app.post(
    '/v1/revocations',
    {
      schema: { body: wire.RevocationCreate, response: { 201: wire.Revocation } },
      config: operation({
        id: 'revokeLeases',
        tag: 'leases',
        summary: 'Take many leases from their holders at once',
        description:
          'One row and one event, however many leases: each of them reads as `ending` from the instant on that it takes ' +
          'effect. Only leases that were granted before are meant; cordon the machine to keep new ones from coming. What machines ' +
          'granted themselves ends too, as soon as they hear of it; `machine_leases_left` tells how far that has come.',
        answers: { 201: 'The revocation: in effect already, or waiting for its deadline.' },
        errors: [
          ...(['machine_not_found', 'holder_not_found', 'pool_not_found', 'session_not_found'] as const),
          ...(['lease_not_found', 'lease_over', 'nothing_selected'] as const),
        ],
        dryRun: true,
        examples: { body: examples.revocationCreate, answers: { 201: examples.revocation } },
      }),
    },
    async (request, reply) => {
      const { machine, holder, pool, select, prefix, session, lease, deadline_s, forced, reason } = request.body;
      const revocation = await run(context, request, {
        kind: 'revokeLeases',
        machine: machine ?? null,
        holder: holder ?? null,
        pool: pool ?? null,
        select: select ?? null,
        prefix: prefix ?? null,
        session: session === undefined ? null : numberOf(session),
        lease: lease === undefined ? null : numberOf(lease),
        deadlineUs: deadline_s === undefined ? null : microseconds(deadline_s),
        forced: forced ?? false,
        reason,
      });
      return reply.code(201).send(await counted(revocation));
    },
  );

  app.get(
    '/v1/revocations',
    {
      schema: { querystring: wire.RevocationListQuery, response: { 200: wire.RevocationPage } },
      config: operation({
        id: 'listRevocations',
        tag: 'leases',
        summary: 'List revocations of many leases',
        description: 'Also those that came of slices being drained, moved or reclaimed.',
        answers: { 200: 'One page of revocations, the oldest first.' },
        errors: [],
        examples: { answers: { 200: pageWith(examples.revocation) } },
      }),
    },
    async ({ query: { limit, cursor, ...filter } }) =>
      page(await context.reader.revocations(defined(filter), pageRequest({ limit, cursor }, 'number')), (revocation) =>
        presentRevocation(revocation),
      ),
  );

  app.get(
    '/v1/revocations/:id',
    {
      schema: { params: z.strictObject({ id: wire.RevocationId }), response: { 200: wire.Revocation } },
      config: operation({
        id: 'getRevocation',
        tag: 'leases',
        summary: 'Read how far a revocation has come',
        answers: { 200: 'The revocation, with how many leases it has ended so far.' },
        errors: ['revocation_not_found'],
        examples: { answers: { 200: examples.doneRevocation } },
      }),
    },
    async ({ params }) => {
      const id = numberOf(params.id);
      const revocation = await context.reader.revocation(id);
      if (revocation === undefined)
        throw leaseProblem({ code: 'revocation_not_found', revocation: id }, context.clock.nowUs());
      return counted(revocation);
    },
  );
});
