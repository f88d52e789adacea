import { z } from 'zod';
import type { Pool } from '../../leases/model.ts';
import { slotTotal } from '../../leases/slots.ts';
import * as wire from '../../wire/pools.ts';
import * as examples from '../examples.ts';
import { operation } from '../operation.ts';
import type { Parts } from '../parts.ts';
import { demandOf, page, presentPool } from '../present.ts';
import { leaseProblem } from '../problems.ts';
import { ById, defined, pageRequest } from '../requests.ts';
import { ifRevisionOf, showRevision } from '../preconditions.ts';
import { resource, run } from '../resource.ts';
import { microseconds } from '../units.ts';

export const poolRoutes = resource('pools', (app, context) => {
  app.post(
    '/v1/pools',
    {
      schema: { body: wire.PoolCreate, response: { 201: wire.Pool } },
      config: operation({
        id: 'createPool',
        tag: 'pools',
        summary: 'Create a pool of address prefixes',
        description: 'Slices come to be when they are first assigned: a pool may be as large as a prefix can be.',
        answers: { 201: 'The pool.' },
        errors: ['pool_exists', 'prefix_overlap', 'carve_out_outside_pool', 'pool_too_small'],
        revision: 'shown',
        changesQuietly: true,
        dryRun: true,
        examples: { body: examples.poolCreate, answers: { 201: examples.pool } },
      }),
    },
    async (request, reply) => {
      const { body } = request;
      const pool = await run(context, request, {
        kind: 'createPool',
        id: body.id,
        labels: body.labels,
        prefixes: body.prefixes,
        carveOuts: body.carve_outs,
        slicePorts: body.slice_ports,
        usablePorts: body.usable_ports,
        sharedBlockPorts: body.shared_block_ports,
        cooldownUs: cooldownOf(body.cooldown_s),
        routers: demandOf(body.routers),
      });
      showRevision(reply, pool);
      return reply.code(201).send(await withCounts(context, pool));
    },
  );

  app.get(
    '/v1/pools',
    {
      schema: { querystring: wire.PoolListQuery, response: { 200: wire.PoolPage } },
      config: operation({
        id: 'listPools',
        tag: 'pools',
        summary: 'List the pools',
        answers: { 200: 'One page of pools, by name.' },
        errors: [],
        examples: { answers: { 200: examples.pageWith(examples.pool) } },
      }),
    },
    async ({ query: { limit, cursor, select, address } }) => {
      const filter = defined({ labels: select, address });
      const found = await context.reader.pools(filter, pageRequest({ limit, cursor }, 'name'));
      const items = await Promise.all(found.items.map((pool) => withCounts(context, pool)));
      return page({ items, next: found.next }, (item) => item);
    },
  );

  app.get(
    '/v1/pools/:id',
    {
      schema: { params: ById, response: { 200: wire.Pool } },
      config: operation({
        id: 'getPool',
        tag: 'pools',
        summary: 'Read one pool',
        answers: { 200: 'The pool, with how many of its slices are in use.' },
        errors: ['pool_not_found'],
        revision: 'shown',
        changesQuietly: true,
        examples: { answers: { 200: examples.pool } },
      }),
    },
    async ({ params: { id } }, reply) => {
      const pool = await context.reader.pool(id);
      if (pool === undefined) throw leaseProblem({ code: 'pool_not_found', pool: id }, context.clock.nowUs());
      showRevision(reply, pool);
      return withCounts(context, pool);
    },
  );

  app.patch(
    '/v1/pools/:id',
    {
      schema: { params: ById, body: wire.PoolUpdate, response: { 200: wire.Pool } },
      config: operation({
        id: 'updatePool',
        tag: 'pools',
        summary: 'Change a pool: labels, prefixes, carve-outs, cooldowns, routers',
        description:
          'What is left out stays. Nothing that a machine has a slice of is touched: drain that first. The size of slices ' +
          'and the usable ports are what the pool was created with.',
        answers: { 200: 'The pool as it is now.' },
        errors: ['pool_not_found', 'prefix_overlap', 'carve_out_outside_pool', 'pool_too_small', 'space_in_use'],
        revision: 'required',
        changesQuietly: true,
        dryRun: true,
        examples: { body: examples.poolUpdate, answers: { 200: examples.updatedPool } },
      }),
    },
    async (request, reply) => {
      const { labels, prefixes, carve_outs, shared_block_ports, cooldown_s, routers } = request.body;
      const pool = await run(context, request, {
        kind: 'updatePool',
        id: request.params.id,
        ifRevision: ifRevisionOf(request),
        ...defined({ labels, prefixes, carveOuts: carve_outs, sharedBlockPorts: shared_block_ports }),
        ...(cooldown_s === undefined ? {} : { cooldownUs: cooldownOf(cooldown_s) }),
        ...(routers === undefined ? {} : { routers: demandOf(routers) }),
      });
      showRevision(reply, pool);
      return withCounts(context, pool);
    },
  );

  app.delete(
    '/v1/pools/:id',
    {
      schema: { params: ById, response: { 204: z.void() } },
      config: operation({
        id: 'deletePool',
        tag: 'pools',
        summary: 'Delete a pool',
        description: 'Only when no machine has a slice of it. Who had its ports in the past can still be asked.',
        answers: { 204: 'It is gone; its name and its prefixes may be used for another.' },
        errors: ['pool_not_found', 'pool_in_use'],
        revision: 'required',
        dryRun: true,
        examples: { answers: {} },
      }),
    },
    async (request, reply) => {
      await run(context, request, { kind: 'deletePool', id: request.params.id, ifRevision: ifRevisionOf(request) });
      return reply.code(204).send();
    },
  );
});

const cooldownOf = (cooldown_s: wire.Pool['cooldown_s']): Pool['cooldownUs'] => ({
  tcp: microseconds(cooldown_s.tcp),
  udp: microseconds(cooldown_s.udp),
  icmp: microseconds(cooldown_s.icmp),
});

async function withCounts(parts: Parts, pool: Pool) {
  const { assigned, cooling } = await parts.reader.poolSlices(pool.id);
  return presentPool(pool, { total: slotTotal(pool), assigned, cooling });
}
