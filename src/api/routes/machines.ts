import { z } from 'zod';
import type { Want } from '../../leases/model.ts';
import { formatSelector } from '../../net/selector.ts';
import * as wire from '../../wire/machines.ts';
import * as examples from '../examples.ts';
import { operation } from '../operation.ts';
import { page, presentBroker, presentMachine } from '../present.ts';
import { ifRevisionOf, showRevision } from '../preconditions.ts';
import { principalOf, requireOwn } from '../principal.ts';
import { ById, defined, pageRequest } from '../requests.ts';
import { machineOf, resource, run } from '../resource.ts';
import { microseconds } from '../units.ts';

export const machineRoutes = resource('machines', (app, context) => {
  app.post(
    '/v1/machines',
    {
      schema: { body: wire.MachineCreate, response: { 201: wire.Machine } },
      config: operation({
        id: 'createMachine',
        tag: 'machines',
        summary: 'Create a machine',
        answers: { 201: 'The machine. Give its agent a token of role `agent` next.' },
        errors: ['machine_exists', 'pool_not_found', 'allocator_needs_agent'],
        revision: 'shown',
        changesQuietly: true,
        dryRun: true,
        examples: { body: examples.machineCreate, answers: { 201: { ...examples.machine, agent: null } } },
      }),
    },
    async (request, reply) => {
      const { id, labels, enforcement, fence_s, mark, next_hops, wants } = request.body;
      const machine = await run(context, request, {
        kind: 'createMachine',
        id,
        labels,
        enforcement,
        fenceUs: microseconds(fence_s),
        mark,
        nextHops: next_hops,
        wants: wantsOf(wants),
      });
      showRevision(reply, machine);
      return reply.code(201).send(presentMachine(machine));
    },
  );

  app.get(
    '/v1/machines',
    {
      schema: { querystring: wire.MachineListQuery, response: { 200: wire.MachinePage } },
      config: operation({
        id: 'listMachines',
        tag: 'machines',
        summary: 'List the machines',
        answers: { 200: 'One page of machines, by name.' },
        errors: [],
        examples: { answers: { 200: examples.pageWith(examples.machine) } },
      }),
    },
    async ({ query: { limit, cursor, select, ...fields } }) => {
      const filter = defined({ ...fields, labels: select });
      return page(await context.reader.machines(filter, pageRequest({ limit, cursor }, 'name')), presentMachine);
    },
  );

  app.get(
    '/v1/machines/:id',
    {
      schema: { params: ById, response: { 200: wire.Machine } },
      config: operation({
        id: 'getMachine',
        tag: 'machines',
        summary: 'Read one machine',
        description: 'An agent reads its own machine only.',
        answers: { 200: 'The machine, what its agent said last, and what its broker reported.' },
        errors: ['machine_not_found'],
        revision: 'shown',
        changesQuietly: true,
        examples: { answers: { 200: examples.machine } },
      }),
    },
    async (request, reply) => {
      const { id } = request.params;
      requireOwn(principalOf(request), { machine: id }, `machine "${id}"`);
      const machine = await machineOf(context, id);
      showRevision(reply, machine);
      const broker = await context.reader.broker(id);
      return { ...presentMachine(machine), ...(broker?.isWhole ? { broker: presentBroker(broker) } : {}) };
    },
  );

  app.patch(
    '/v1/machines/:id',
    {
      schema: { params: ById, body: wire.MachineUpdate, response: { 200: wire.Machine } },
      config: operation({
        id: 'updateMachine',
        tag: 'machines',
        summary: 'Cordon or drain a machine, give it up, make it active again, or change its labels, wants and way',
        description:
          'Slices follow one after the other. A slice that drains goes on doing so when its machine is made active again, ' +
          'and one that was reclaimed does not come back. What is said of a machine that is fenced counts when its agent is back.',
        answers: { 200: 'The machine as it is now.' },
        errors: ['machine_not_found', 'pool_not_found', 'allocator_needs_agent'],
        revision: 'required',
        changesQuietly: true,
        dryRun: true,
        examples: { body: examples.machineUpdate, answers: { 200: examples.drainingMachine } },
      }),
    },
    async (request, reply) => {
      const { next_hops: nextHops, drain_deadline_s, wants, ...body } = request.body;
      const ifRevision = ifRevisionOf(request);
      const machine = await run(context, request, {
        kind: 'updateMachine',
        id: request.params.id,
        ifRevision,
        ...defined({ ...body, nextHops }),
        ...(wants === undefined ? {} : { wants: wantsOf(wants) }),
        drainDeadlineUs: drain_deadline_s === undefined ? null : microseconds(drain_deadline_s),
      });
      showRevision(reply, machine);
      return presentMachine(machine);
    },
  );

  app.delete(
    '/v1/machines/:id',
    {
      schema: { params: ById, response: { 204: z.void() } },
      config: operation({
        id: 'deleteMachine',
        tag: 'machines',
        summary: 'Delete a machine',
        description:
          'Only when it has no slice and no holder has a live session there. Its holders go with it, and its tokens (of the ' +
          'agent and of holders) are revoked. Who had ports there in the past can still be asked.',
        answers: { 204: 'It is gone; its name may be used for another.' },
        errors: ['machine_not_found', 'machine_in_use'],
        revision: 'required',
        dryRun: true,
        examples: { answers: {} },
      }),
    },
    async (request, reply) => {
      const { id } = request.params;
      await run(context, request, { kind: 'deleteMachine', id, ifRevision: ifRevisionOf(request) });
      return reply.code(204).send();
    },
  );
});

const wantsOf = (wants: NonNullable<wire.MachineUpdate['wants']>): readonly Want[] =>
  wants.map(({ pool = null, select, family = null, allocator, slices }) => {
    return { pool, select: select === undefined ? null : formatSelector(select), family, allocator, slices };
  });
