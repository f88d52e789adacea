import type { FastifyReply, FastifyRequest } from 'fastify';
import fp from 'fastify-plugin';
import { z } from 'zod';
import { allocatorQuery, BrokerOf, type ForwardedAnswer, type ForwardedRequest } from '../../wire/broker.ts';
import type { Context } from '../context.ts';
import type { Unreachable } from '../forwarding.ts';
import { notYours, principalOf } from '../principal.ts';
import { apiProblem, leaseProblem, type ApiProblem } from '../problems.ts';
import { provenanceOf } from '../provenance.ts';
import { machineOf } from '../resource.ts';

/**
 * Operations on sessions and leases take `?allocator=machine&machine=…`: then they are about what the broker of that
 * machine grants, and are carried out there. Whoever may not do it here may not do it there: role and machine are looked at
 * before anything is sent, the holder by the broker, where nothing can race it.
 */
export const forwarding = fp<{ context: Context }>(
  async (app, { context }) => {
    app.addHook('onRoute', (route) => {
      if (route.config?.operation?.forwarded !== true) return;
      const schema = { ...route.schema };
      schema.querystring = withAllocator(schema.querystring);
      route.schema = schema;
      // A broker is where it is forwarded to.
      if (context.callers) return;
      route.preHandler = [
        route.preHandler ?? [],
        async (request: FastifyRequest, reply: FastifyReply) => {
          const machine = brokerAskedFor(request);
          return machine === undefined ? undefined : await forward(context, request, reply, machine);
        },
      ].flat();
    });
    app.addHook('preClose', async () => context.forwarding.close());
  },
  // Before the operations are collected: what they take is told of them.
  { name: 'fishery-forwarding', dependencies: ['fishery-validation'] },
);

function withAllocator(query: unknown): z.ZodType {
  if (query === undefined) return BrokerOf;
  if (query instanceof z.ZodObject) return query.extend(allocatorQuery);
  throw new Error('the query of an operation that can be forwarded is an object');
}

type Asked = Readonly<{ allocator?: unknown; machine?: unknown }>;

/** Of which machine's broker it is asked; undefined: of this server. A body may say it too. */
export function brokerAskedFor({ query, body }: Pick<FastifyRequest, 'query' | 'body'>): string | undefined {
  const said = query as Asked;
  const inBody = (body ?? {}) as Asked;
  if (said.allocator !== 'machine') {
    if (typeof said.machine === 'string') throw unfit('query.machine', 'goes with allocator=machine');
    return inBody.allocator === 'machine' && typeof inBody.machine === 'string' ? inBody.machine : undefined;
  }
  const machine = said.machine ?? inBody.machine;
  if (typeof machine !== 'string') throw unfit('query.machine', 'is required with allocator=machine');
  if (typeof inBody.machine === 'string' && inBody.machine !== machine)
    throw unfit('query.machine', 'is not the machine that the body says');
  return machine;
}

function unfit(path: string, message: string): ApiProblem {
  return apiProblem('validation_failed', `${path}: ${message}`, { errors: [{ path, message }] });
}

async function forward(
  context: Context,
  request: FastifyRequest,
  reply: FastifyReply,
  machine: string,
): Promise<FastifyReply> {
  const principal = principalOf(request);
  const { role, token, name, holder } = principal;
  if (role !== 'operator' && role !== 'agent' && role !== 'holder' && role !== 'viewer')
    throw new Error(`an operation that can be forwarded is open to the role ${role}`);
  const isForAll = role === 'operator' || role === 'viewer';
  if (!isForAll && principal.machine !== machine) throw notYours(`machine "${machine}"`);
  const { enforcement } = await machineOf(context, machine);
  if (enforcement === 'none') throw leaseProblem({ code: 'allocator_needs_agent', machine }, context.clock.nowUs());
  const answer = await context.forwarding.forward(machine, {
    request_id: request.id,
    method: request.method as ForwardedRequest['method'],
    path: pathOf(request),
    body: bodyOf(request.body),
    idempotency_key: provenanceOf(request).key?.key ?? null,
    principal: { token, name, role, holder },
    timeout_s: (context.limits.forward_ms + waitOf(request)) / 1_000,
  });
  if (typeof answer === 'string') throw unreachable(machine, answer);
  return send(request, reply, answer);
}

function send(request: FastifyRequest, reply: FastifyReply, answer: ForwardedAnswer): FastifyReply {
  const { status, content_type, body, retry_after_s, replayed } = answer;
  if (replayed) request.isReplay = true;
  if (retry_after_s !== undefined) reply.header('retry-after', retry_after_s);
  reply.code(status);
  return body == null ? reply.send() : reply.type(`${content_type}; charset=utf-8`).send(JSON.stringify(body));
}

/** Without what only says who is asked; the broker is. */
function pathOf({ url }: Pick<FastifyRequest, 'url'>): string {
  const [path = '', query = ''] = url.split('?', 2);
  const said = new URLSearchParams(query);
  for (const name of Object.keys(allocatorQuery)) said.delete(name);
  return said.size === 0 ? path : `${path}?${said.toString()}`;
}

function bodyOf(body: unknown): unknown {
  if (typeof body !== 'object' || body === null) return null;
  const { allocator: _, ...rest } = body as Asked;
  return rest;
}

/** A grant may wait for the leases to be true on the host. */
function waitOf({ query }: Pick<FastifyRequest, 'query'>): number {
  const { wait, timeout_s } = query as Readonly<{ wait?: unknown; timeout_s?: unknown }>;
  return wait === 'applied' && typeof timeout_s === 'number' ? timeout_s * 1_000 : 0;
}

const retry_s = { no_agent: 5, not_delivered: 1, too_many: 1, silent: 2 } as const;

function unreachable(machine: string, why: Unreachable): ApiProblem {
  const details: Readonly<Record<Unreachable, string>> = {
    no_agent: `the agent of machine "${machine}" does not listen: nothing was carried out`,
    not_delivered: `the agent of machine "${machine}" does not keep up: nothing was carried out`,
    too_many: `as many requests wait for machine "${machine}" as may: nothing was carried out`,
    silent: `machine "${machine}" did not answer in time: whether it was carried out nobody says`,
  };
  return apiProblem('machine_unreachable', details[why], { retryAfterS: retry_s[why] });
}
