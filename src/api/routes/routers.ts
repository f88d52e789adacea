import { z } from 'zod';
import * as wire from '../../wire/routers.ts';
import * as examples from '../examples/routes.ts';
import { pageWith } from '../examples.ts';
import { operation } from '../operation.ts';
import { page, presentRouter } from '../present.ts';
import { principalOf, requireOwn } from '../principal.ts';
import { leaseProblem } from '../problems.ts';
import { ById, defined, pageRequest } from '../requests.ts';
import { resource, run } from '../resource.ts';

export const routerRoutes = resource('routers', (app, context) => {
  app.put(
    '/v1/routers/:id',
    {
      schema: { params: ById, body: wire.RouterPut, response: { 200: wire.Router } },
      config: operation({
        id: 'putRouter',
        tag: 'routes',
        summary: 'Declare a router',
        description:
          'What steers returning packets to the machines: a load balancer, or a program that fills its tables. Give it a ' +
          'token of role `router` next. Pools whose policy counts it wait for it from now on.',
        answers: { 200: 'The router.' },
        errors: [],
        dryRun: true,
        examples: { body: examples.routerPut, answers: { 200: examples.router } },
      }),
    },
    async (request) =>
      presentRouter(await run(context, request, { kind: 'putRouter', id: request.params.id, ...request.body })),
  );

  app.get(
    '/v1/routers',
    {
      schema: { querystring: wire.RouterListQuery, response: { 200: wire.RouterPage } },
      config: operation({
        id: 'listRouters',
        tag: 'routes',
        summary: 'List the routers',
        answers: { 200: 'One page of routers, by name, with how far each has got.' },
        errors: [],
        examples: { answers: { 200: pageWith(examples.router) } },
      }),
    },
    async ({ query }) =>
      page(await context.reader.routers(defined({ labels: query.select }), pageRequest(query, 'name')), presentRouter),
  );

  app.get(
    '/v1/routers/:id',
    {
      schema: { params: ById, response: { 200: wire.Router } },
      config: operation({
        id: 'getRouter',
        tag: 'routes',
        summary: 'Read one router',
        description: 'A router reads itself only.',
        answers: { 200: 'The router, and how far it has got.' },
        errors: ['router_not_found'],
        examples: { answers: { 200: examples.router } },
      }),
    },
    async (request) => {
      const { id } = request.params;
      requireOwn(principalOf(request), { router: id }, `router "${id}"`);
      const router = await context.reader.router(id);
      if (router === undefined) throw leaseProblem({ code: 'router_not_found', router: id }, context.clock.nowUs());
      return presentRouter(router);
    },
  );

  app.delete(
    '/v1/routers/:id',
    {
      schema: { params: ById, response: { 204: z.void() } },
      config: operation({
        id: 'deleteRouter',
        tag: 'routes',
        summary: 'Take a router out of service',
        description:
          'Nobody waits for it any more. Do it when it steers nothing: slices that wait for its acknowledgement alone go ' +
          'on. Its tokens stay, and are of no use until there is a router of this name again.',
        answers: { 204: 'It is gone.' },
        errors: ['router_not_found'],
        dryRun: true,
        examples: { answers: {} },
      }),
    },
    async (request, reply) => {
      await run(context, request, { kind: 'deleteRouter', id: request.params.id });
      return reply.code(204).send();
    },
  );

  app.post(
    '/v1/routers/:id/applied',
    {
      schema: { params: ById, body: wire.RoutesApplied, response: { 200: wire.Router } },
      config: operation({
        id: 'reportRoutesApplied',
        repeatable: true,
        tag: 'routes',
        summary: 'Acknowledge routes',
        description:
          'All that was told about routes, through `revision`, is true on the router. Slices that wait for this go on: ' +
          'their machines get to know them, or they become free. Say it now and then without news, too: `seen_at` tells ' +
          'operators that the router lives. A revision below one that was acknowledged before takes nothing back.',
        answers: { 200: 'The router, and how far it has got.' },
        errors: ['router_not_found', 'revision_unknown'],
        dryRun: true,
        examples: { body: examples.routesApplied, answers: { 200: examples.router } },
      }),
    },
    async (request) => {
      const { id } = request.params;
      requireOwn(principalOf(request), { router: id }, `router "${id}"`);
      const { revision } = request.body;
      return presentRouter(await run(context, request, { kind: 'routerApplied', router: id, revision }));
    },
  );
});
