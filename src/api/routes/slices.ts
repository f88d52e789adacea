import type { FastifyReply } from 'fastify';
import { z } from 'zod';
import type { Slice } from '../../leases/model.ts';
import { SliceId } from '../../wire/primitives.ts';
import * as wire from '../../wire/slices.ts';
import * as examples from '../examples.ts';
import { operation } from '../operation.ts';
import { page, presentSlice, presentTiling } from '../present.ts';
import { ifRevisionOf, showRevision } from '../preconditions.ts';
import { presentWaiting } from '../waiting.ts';
import { leaseProblem } from '../problems.ts';
import { defined, numberOf, pageRequest } from '../requests.ts';
import { resource, run } from '../resource.ts';

const BySliceId = z.strictObject({ id: SliceId });

const answer = (reply: FastifyReply, slice: Slice): wire.Slice => {
  showRevision(reply, slice);
  return presentSlice(slice);
};

export const sliceRoutes = resource('slices', (app, context) => {
  const sliceOf = async (id: string) => {
    const slice = await context.reader.slice(numberOf(id));
    if (slice === undefined)
      throw leaseProblem({ code: 'slice_not_found', slice: numberOf(id) }, context.clock.nowUs());
    return slice;
  };

  app.post(
    '/v1/slices',
    {
      schema: { body: wire.SliceAssign, response: { 201: wire.SliceList } },
      config: operation({
        id: 'assignSlices',
        tag: 'slices',
        summary: 'Assign slices of a pool to a machine',
        description:
          'All of them or none. On a machine with an agent they are `assigning` until the agent has made them true; leases ' +
          'are granted from then on.',
        answers: { 201: 'The slices that the machine now owns.' },
        errors: [
          'machine_not_found',
          'machine_not_active',
          'pool_not_found',
          'slice_misaligned',
          'slice_outside_pool',
          'slice_carved_out',
          'slice_taken',
          'slices_exhausted',
        ],
        dryRun: true,
        examples: { body: examples.sliceAssign, answers: { 201: examples.assignedSlices } },
      }),
    },
    async (request, reply) => {
      const { body } = request;
      const slices = await run(context, request, {
        kind: 'assignSlices',
        machine: body.machine,
        pool: body.pool,
        count: body.count,
        family: body.family ?? null,
        at: body.at === undefined ? null : { address: body.at.address, firstPort: body.at.first_port },
      });
      return reply.code(201).send({ slices: slices.map(presentSlice) });
    },
  );

  app.get(
    '/v1/slices',
    {
      schema: { querystring: wire.SliceListQuery, response: { 200: wire.SlicePage } },
      config: operation({
        id: 'listSlices',
        tag: 'slices',
        summary: 'List slices',
        answers: { 200: 'One page of slices that match every filter given.' },
        errors: [],
        examples: { answers: { 200: examples.pageWith(examples.slice) } },
      }),
    },
    async ({ query: { limit, cursor, ...filter } }) => {
      const found = await context.reader.slices(defined(filter), pageRequest({ limit, cursor }, 'number'));
      return page({ items: await presentWaiting(context, found.items), next: found.next }, (slice) => slice);
    },
  );

  app.get(
    '/v1/slices/:id',
    {
      schema: { params: BySliceId, response: { 200: wire.Slice } },
      config: operation({
        id: 'getSlice',
        tag: 'slices',
        summary: 'Read one slice',
        answers: { 200: 'The slice.' },
        errors: ['slice_not_found'],
        revision: 'shown',
        examples: { answers: { 200: examples.slice } },
      }),
    },
    async ({ params: { id } }, reply) => {
      const slice = await sliceOf(id);
      const [shown] = await presentWaiting(context, [slice]);
      return { ...answer(reply, slice), ...shown };
    },
  );

  app.get(
    '/v1/slices/:id/extents',
    {
      schema: { params: BySliceId, response: { 200: wire.ExtentList } },
      config: operation({
        id: 'listExtents',
        tag: 'slices',
        summary: 'See who has which ports of a slice',
        description: 'The extents tile the slice for each protocol: no gap, no overlap.',
        answers: { 200: 'The extents, by protocol and first port.' },
        errors: ['slice_not_found'],
        examples: { answers: { 200: examples.extents } },
      }),
    },
    async ({ params: { id } }) => {
      const slice = await sliceOf(id);
      const { extents, leases } = await context.reader.tiling(slice.id);
      return { slice: id, extents: presentTiling(extents, leases) };
    },
  );

  app.post(
    '/v1/slices/:id/drain',
    {
      schema: { params: BySliceId, response: { 200: wire.Slice } },
      config: operation({
        id: 'drainSlice',
        tag: 'slices',
        summary: 'Take a slice back from its machine',
        description:
          'Nothing new is granted in it. It is free once its leases are over, the agent proved it empty, and the cooldown ' +
          'has passed.',
        answers: { 200: 'The slice, now `draining` (or further, when nothing holds it).' },
        errors: ['slice_not_found', 'slice_not_assigned'],
        revision: 'required',
        dryRun: true,
        examples: { answers: { 200: examples.drainingSlice } },
      }),
    },
    async (request, reply) => {
      const ifRevision = ifRevisionOf(request);
      return answer(
        reply,
        await run(context, request, { kind: 'drainSlice', id: numberOf(request.params.id), ifRevision }),
      );
    },
  );

  app.post(
    '/v1/slices/:id/unblock',
    {
      schema: { params: BySliceId, body: wire.Unblock, response: { 200: wire.Slice } },
      config: operation({
        id: 'unblockExtent',
        tag: 'slices',
        summary: 'State that the stranger on a blocked extent is gone',
        description: 'The ports are the very ones of the blocked extent.',
        answers: { 200: 'The slice.' },
        errors: ['slice_not_found', 'slice_not_assigned', 'nothing_blocked'],
        revision: 'required',
        dryRun: true,
        examples: { body: examples.unblock, answers: { 200: examples.slice } },
      }),
    },
    async (request, reply) => {
      const { protocol, ports } = request.body;
      const ifRevision = ifRevisionOf(request);
      const slice = numberOf(request.params.id);
      return answer(reply, await run(context, request, { kind: 'unblock', slice, protocol, ports, ifRevision }));
    },
  );
});
