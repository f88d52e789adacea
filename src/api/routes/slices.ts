import type { FastifyReply, FastifyRequest } from 'fastify';
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
import { microseconds } from '../units.ts';

const BySliceId = z.strictObject({ id: SliceId });

const answer = (reply: FastifyReply, slice: Slice): wire.Slice => {
  showRevision(reply, slice);
  return presentSlice(slice);
};

/** What every way of leaving a machine has in common. */
const leavingOf = (
  request: FastifyRequest<{ Params: { id: string } }>,
  terms?: Readonly<{ deadline_s?: number | undefined; force: boolean }>,
) => ({
  id: numberOf(request.params.id),
  ifRevision: ifRevisionOf(request),
  deadlineUs: terms?.deadline_s === undefined ? null : microseconds(terms.deadline_s),
  force: terms?.force ?? false,
});

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
          'allocator_needs_agent',
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
        allocator: body.allocator,
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
    async ({ query: { limit, cursor, select, select_machine, ...fields } }) => {
      const filter = defined({ ...fields, poolLabels: select, machineLabels: select_machine });
      const found = await context.reader.slices(filter, pageRequest({ limit, cursor }, 'number'));
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
      return { slice: id, extents: presentTiling(await context.reader.tiling(slice.id)) };
    },
  );

  app.post(
    '/v1/slices/:id/drain',
    {
      schema: { params: BySliceId, body: wire.SliceDrain.optional(), response: { 200: wire.Slice } },
      config: operation({
        id: 'drainSlice',
        tag: 'slices',
        summary: 'Take a slice back from its machine',
        description:
          'Nothing new is granted in it. It is free once its leases are over, the agent proved it empty, and the cooldown ' +
          'has passed. Leases go on until they end by themselves, or as long as is said; of several deadlines the earliest counts.',
        answers: { 200: 'The slice, now `draining` (or further, when nothing holds it).' },
        errors: ['slice_not_found', 'slice_not_assigned'],
        revision: 'required',
        dryRun: true,
        examples: { body: examples.sliceDrain, answers: { 200: examples.drainingSlice } },
      }),
    },
    async (request, reply) => {
      const leaving = leavingOf(request, request.body);
      return answer(reply, await run(context, request, { kind: 'drainSlice', ...leaving }));
    },
  );

  app.post(
    '/v1/slices/:id/move',
    {
      schema: { params: BySliceId, body: wire.SliceMove, response: { 200: wire.Slice } },
      config: operation({
        id: 'moveSlice',
        tag: 'slices',
        summary: 'Give a slice to another machine',
        description:
          'It drains and rests like any other, and goes to that machine then, one generation further; to the pool, when ' +
          'the machine takes nothing new by that time. Leases that a deadline ends are `moved`.',
        answers: { 200: 'The slice, on its way.' },
        errors: [
          ...(['slice_not_found', 'slice_not_assigned', 'slice_there_already'] as const),
          ...(['machine_not_found', 'machine_not_active', 'allocator_needs_agent'] as const),
        ],
        revision: 'required',
        dryRun: true,
        examples: { body: examples.sliceMove, answers: { 200: examples.movingSlice } },
      }),
    },
    async (request, reply) => {
      const { machine, allocator } = request.body;
      const leaving = leavingOf(request, request.body);
      return answer(reply, await run(context, request, { kind: 'moveSlice', machine, allocator, ...leaving }));
    },
  );

  app.post(
    '/v1/slices/:id/reclaim',
    {
      schema: { params: BySliceId, response: { 200: wire.Slice } },
      config: operation({
        id: 'reclaimSlice',
        tag: 'slices',
        summary: 'Take a slice from a machine that is out of reach',
        description:
          'Only from a machine that is `fenced` or `lost`, and only when its guard has shut for certain. Its leases end as ' +
          '`fenced`, the slice rests, and where it was to move it goes. When the machine comes back, its keepalives are ' +
          'refused until its agent has taken note, and what it reports of the slice is refused as `reclaimed`.',
        answers: { 200: 'The slice, `draining` until its leases are ended, then `cooling`.' },
        errors: ['slice_not_found', 'slice_not_assigned', 'machine_reachable', 'reclaim_too_early'],
        revision: 'required',
        dryRun: true,
        examples: { answers: { 200: examples.reclaimedSlice } },
      }),
    },
    async (request, reply) => {
      const { id, ifRevision } = leavingOf(request);
      return answer(reply, await run(context, request, { kind: 'reclaimSlice', id, ifRevision }));
    },
  );

  app.post(
    '/v1/slices/:id/allocator',
    {
      schema: { params: BySliceId, body: wire.AllocatorChange, response: { 200: wire.Slice } },
      config: operation({
        id: 'setAllocator',
        tag: 'slices',
        summary: 'Say who grants inside a slice',
        description:
          'The slice drains, rests, and comes back to its machine one generation further: what the one granted is over ' +
          'before the other begins. In machine-allocated space the server never grants, expires or frees.',
        answers: { 200: 'The slice, on its way; as it is, when that is the allocator already.' },
        errors: ['slice_not_found', 'slice_not_assigned', 'allocator_needs_agent'],
        revision: 'required',
        dryRun: true,
        examples: { body: examples.allocatorChange, answers: { 200: examples.handedOverSlice } },
      }),
    },
    async (request, reply) => {
      const { allocator } = request.body;
      const leaving = leavingOf(request, request.body);
      return answer(reply, await run(context, request, { kind: 'handOverSlice', allocator, ...leaving }));
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
