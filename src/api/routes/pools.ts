import type { Pool } from '../../leases/model.ts';
import { slotTotal } from '../../leases/slots.ts';
import { PageQuery } from '../../wire/lists.ts';
import * as wire from '../../wire/pools.ts';
import * as examples from '../examples.ts';
import { operation } from '../operation.ts';
import type { Parts } from '../parts.ts';
import { page, presentPool } from '../present.ts';
import { leaseProblem } from '../problems.ts';
import { ById, pageRequest } from '../requests.ts';
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
        errors: ['pool_exists', 'prefix_overlap', 'pool_too_small'],
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
        slicePorts: body.slice_ports,
        usablePorts: body.usable_ports,
        sharedBlockPorts: body.shared_block_ports,
        cooldownUs: {
          tcp: microseconds(body.cooldown_s.tcp),
          udp: microseconds(body.cooldown_s.udp),
          icmp: microseconds(body.cooldown_s.icmp),
        },
      });
      return reply.code(201).send(await withCounts(context, pool));
    },
  );

  app.get(
    '/v1/pools',
    {
      schema: { querystring: PageQuery, response: { 200: wire.PoolPage } },
      config: operation({
        id: 'listPools',
        tag: 'pools',
        summary: 'List the pools',
        answers: { 200: 'One page of pools, by name.' },
        errors: [],
        examples: { answers: { 200: examples.pageWith(examples.pool) } },
      }),
    },
    async ({ query }) => {
      const found = await context.reader.pools(pageRequest(query, 'name'));
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
        examples: { answers: { 200: examples.pool } },
      }),
    },
    async ({ params: { id } }) => {
      const pool = await context.reader.pool(id);
      if (pool === undefined) throw leaseProblem({ code: 'pool_not_found', pool: id }, context.clock.nowUs());
      return withCounts(context, pool);
    },
  );
});

async function withCounts(parts: Parts, pool: Pool) {
  const { assigned, cooling } = await parts.reader.poolSlices(pool.id);
  return presentPool(pool, { total: slotTotal(pool), assigned, cooling });
}
