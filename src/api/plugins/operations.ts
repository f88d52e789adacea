import type { FastifyReply, FastifyRequest, RouteOptions } from 'fastify';
import fp from 'fastify-plugin';
import { z } from 'zod';
import { dryRunQuery } from '../../wire/lists.ts';
import type { DescribedRoute } from '../openapi.ts';
import type { OperationId } from '../access.ts';
import { isDryRun } from '../resource.ts';

declare module 'fastify' {
  interface FastifyInstance {
    /** Every operation of the API, in the order of its declaration. */
    operations: readonly DescribedRoute[];
  }
  interface FastifyContextConfig {
    /** Pages for people and redirects: in no contract, and open to everybody. */
    undocumented?: true;
  }
}

const nothing = z.strictObject({});
const noBody = nothing.optional();

/**
 * Collects the operations for the OpenAPI document, and closes what a route leaves open: where it declares no query or no
 * body, none is accepted, so that a misspelt option is an error instead of a silent no-op.
 */
export const operations = fp<Readonly<{ serves?: ReadonlySet<OperationId> | undefined }>>(
  async (app, { serves }) => {
    const described: DescribedRoute[] = [];
    app.decorate('operations', described);
    app.addHook('onRoute', (route) => {
      // Fastify adds HEAD to each GET, with the same roles.
      if (route.method === 'HEAD') return;
      const { operation, undocumented } = route.config ?? {};
      if (operation === undefined) {
        if (undocumented !== true && !isDocsAsset(route))
          throw new Error(`${String(route.method)} ${route.url} says neither what it does nor who may call it`);
        return;
      }
      const schema = { ...route.schema };
      if (operation.dryRun === true) {
        schema.querystring = withDryRun(schema.querystring);
        route.preHandler = [route.preHandler ?? [], sayDryRun].flat();
      }
      const [params, query, body] = [schema.params, schema.querystring, schema.body].map(zodOrNothing);
      if (!serves || serves.has(operation.id))
        described.push({
          method: String(route.method),
          url: route.url,
          operation,
          params,
          query,
          body,
          answers: (schema.response ?? {}) as Record<string, z.ZodType>,
        });
      // A health check may carry whatever its caller adds against caches.
      if (operation.tag === 'server') return;
      schema.querystring ??= nothing;
      if (route.method !== 'GET') schema.body ??= noBody;
      route.schema = schema;
    });
  },
  { name: 'fishery-operations', dependencies: ['fishery-validation'] },
);

function withDryRun(query: unknown): z.ZodType {
  if (query === undefined) return z.strictObject(dryRunQuery);
  if (query instanceof z.ZodObject) return query.extend(dryRunQuery);
  throw new Error('the query of an operation that can be tried is an object');
}

/** On refusals too: whoever reads an answer must not take what would be for what is. */
function sayDryRun(request: FastifyRequest, reply: FastifyReply, done: () => void): void {
  if (isDryRun(request)) reply.header('fishery-dry-run', 'true');
  done();
}

/** What @fastify/swagger-ui registers; it marks its routes as hidden, apart from the files of @fastify/static. */
const isDocsAsset = (route: RouteOptions): boolean => route.url.startsWith('/docs');

function zodOrNothing(schema: unknown): z.ZodType | undefined {
  if (schema === undefined || schema instanceof z.ZodType) return schema;
  throw new Error('schemas of routes are zod schemas');
}
