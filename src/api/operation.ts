import type {
  FastifyBaseLogger,
  FastifyInstance,
  FastifyTypeProvider,
  RawReplyDefaultExpression,
  RawRequestDefaultExpression,
  RawServerDefault,
} from 'fastify';
import type { z } from 'zod';
import type { OperationId } from './access.ts';
import type { ErrorCode } from './errors.ts';

/** Request parts come out of the zod schemas as handlers get them; answers go in as the schemas describe them. */
export interface ZodTypeProvider extends FastifyTypeProvider {
  validator: this['schema'] extends z.ZodType ? z.output<this['schema']> : unknown;
  serializer: this['schema'] extends z.ZodType ? z.output<this['schema']> : unknown;
}

/** Fastify with handlers typed by zod. */
export type Api = FastifyInstance<
  RawServerDefault,
  RawRequestDefaultExpression,
  RawReplyDefaultExpression,
  FastifyBaseLogger,
  ZodTypeProvider
>;

export const tags = {
  pools: 'Address prefixes and how they are cut into slices.',
  machines: 'Hosts, and who uses ports on them.',
  slices: 'An address and a port range, owned by one machine.',
  sessions: "A holder's liveness: one row however many leases.",
  leases: "A holder's right to ports.",
  agent: 'What the agent of one machine reads and reports.',
  routes: 'Where packets that come back belong, and what steers them there.',
  log: 'The one ordered log of changes.',
  attribution: 'Who had a port when.',
  access: 'Bearer tokens and their roles.',
  server: 'The server about itself.',
} as const;

/** What the schemas of a route do not say about it. OpenAPI is made of both. */
export type Operation = Readonly<{
  id: OperationId;
  tag: keyof typeof tags;
  summary: string;
  description?: string;
  /** What each success status means. */
  answers: Readonly<Record<number, string>>;
  /** What it can be refused for, beside what every operation can (see openapi.ts). */
  errors: readonly ErrorCode[];
  /** A body to try; answers as they look. Checked against the schemas by a test. */
  examples: Readonly<{ body?: unknown; answers: Readonly<Record<number, unknown>> }>;
  /** Takes `?dry_run=true`: its handler passes the request on to `run`, which then has the core decide and write nothing. */
  dryRun?: true;
  /**
   * `shown`: the answer is about one thing that has a revision, and carries it as its ETag. `required`: the operation
   * changes such a thing, and If-Match must name the revision too; `optional`: it may.
   */
  revision?: 'shown' | 'required' | 'optional';
  /** What it shows can be another at the same revision: the ETag says more than the revision then. */
  changesQuietly?: true;
  /** Comes again without harm, by what it is: it takes no Idempotency-Key, and keeps no answer. */
  repeatable?: true;
  /** Can be about what the broker of a machine grants (`?allocator=machine`): it is carried out there then. */
  forwarded?: true;
  /** Media types of a body that is text instead of JSON; its route has a parser for them. */
  consumes?: readonly string[];
  /** Media type of the answer where it is not JSON. */
  produces?: string;
  /** Other media types that the answer can be had in, each with an example of it: text, whatever it means. */
  alternatives?: Readonly<Record<string, string>>;
}>;

/** The `config` of a route. */
export const operation = (described: Operation): Readonly<{ operation: Operation }> => ({ operation: described });

declare module 'fastify' {
  interface FastifyContextConfig {
    operation?: Operation;
  }
}
