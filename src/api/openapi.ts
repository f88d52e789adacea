import { z } from 'zod';
import { Bookmark, Change, Compacted, FlowQuery, LogEntry } from '../wire/agent.ts';
import { RouteChange } from '../wire/routes.ts';
import { Problem } from '../wire/problems.ts';
import { rolesOf, type OperationId } from './access.ts';
import { errorCodes, errorKinds, problemType, type ErrorCode } from './errors.ts';
import { ownTagPattern } from './entity-tags.ts';
import { tags, type Operation } from './operation.ts';
import { takesKey } from './provenance.ts';

/** A route as it was declared: the schemas that validate it, and what they do not say. */
export type DescribedRoute = Readonly<{
  method: string;
  url: string;
  operation: Operation;
  params?: z.ZodType | undefined;
  query?: z.ZodType | undefined;
  body?: z.ZodType | undefined;
  answers: Readonly<Record<string, z.ZodType>>;
}>;

type Json = { [key: string]: JsonValue };
type JsonValue = string | number | boolean | null | JsonValue[] | Json;

const safeIntegers: ReadonlySet<unknown> = new Set([Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER]);

/**
 * JSON Schemas made of zod schemas. Those with an id become one component each, as a client sends them: a default is
 * optional. What zod adds for its own needs and tells a reader nothing (the bounds of exact integers, the pattern beside
 * `format: date-time`) is left out.
 */
class Components {
  readonly schemas: Record<string, Json> = {};

  of(schema: z.ZodType): Json {
    const { $schema: _, $defs, ...json } = z.toJSONSchema(schema, { io: 'input', override: simplify }) as Json;
    for (const [name, definition] of Object.entries(($defs ?? {}) as Json)) {
      const component = pointAtComponents(definition) as Json;
      const known = this.schemas[name];
      if (known !== undefined && JSON.stringify(known) !== JSON.stringify(component))
        throw new Error(`two schemas are called ${name}`);
      this.schemas[name] = component;
    }
    return pointAtComponents(json) as Json;
  }
}

function simplify({ jsonSchema: json }: { jsonSchema: z.core.JSONSchema.BaseSchema }): void {
  if (safeIntegers.has(json.minimum)) delete json.minimum;
  if (safeIntegers.has(json.maximum)) delete json.maximum;
  if (json.format === 'date-time') delete json.pattern;
}

function pointAtComponents(value: JsonValue): JsonValue {
  if (Array.isArray(value)) return value.map(pointAtComponents);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => [
      key,
      key === '$ref' && typeof inner === 'string'
        ? inner.replace('#/$defs/', '#/components/schemas/')
        : pointAtComponents(inner),
    ]),
  );
}

/** Every way in which an operation can be refused, in the order of the catalogue. */
export function errorsOf(route: DescribedRoute): readonly ErrorCode[] {
  const roles = rolesOf(route.operation.id);
  const reads = route.method === 'GET';
  const codes = new Set<ErrorCode>([...route.operation.errors, 'internal_error', 'shutting_down']);
  const add = (...more: readonly ErrorCode[]) => more.forEach((code) => codes.add(code));
  if (roles !== 'open') add('unauthenticated', 'forbidden', 'client_certificate_required');
  if (roles !== 'open' && (['agent', 'holder', 'router'] as const).some((bound) => roles.includes(bound)))
    add('not_yours');
  if (route.operation.forwarded) add('machine_not_found', 'allocator_needs_agent', 'machine_unreachable');
  if (route.operation.revision === 'required') add('precondition_required');
  if (takesIfMatch(route.operation)) add('precondition_failed');
  if (route.operation.tag !== 'server') add('validation_failed');
  if (route.operation.id !== 'getHealth' && route.operation.id !== 'getReadiness') add('rate_limited');
  // The path alone can be malformed, too: `%zz`.
  add('malformed_request');
  if (!reads && roles !== 'open') add('read_only_epoch');
  if (!reads) add('body_too_large', 'unsupported_media_type', 'read_only', 'outcome_unknown', 'overloaded');
  if (takesKey(route.method, route.operation)) add('idempotency_key_reused');
  return errorCodes.filter((code) => codes.has(code));
}

/** The OpenAPI 3.1 document of the routes, with paths, statuses and components in a stable order. */
export function openApiDocument(routes: readonly DescribedRoute[], version: string): Json {
  const components = new Components();
  components.of(Problem);
  const paths: Record<string, Json> = {};
  for (const route of routes) {
    const path = route.url.replace(/:(\w+)/g, '{$1}');
    paths[path] = { ...paths[path], [route.method.toLowerCase()]: operationObject(route, components) };
  }
  return {
    openapi: '3.1.1',
    info: {
      title: 'Fishery',
      version,
      description:
        'Control plane for soft-unicast egress: many machines share the same IP addresses, each owns slices of their ' +
        'ports, and holders on a machine lease ports inside its slices. Instants are RFC 3339 in UTC with microseconds; ' +
        'durations are seconds. Every failure is a problem document (RFC 9457) with a stable `code`.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    // The server that the document was had from.
    servers: [{ url: '/' }],
    tags: Object.entries(tags).map(([name, description]) => ({ name, description })),
    paths,
    components: {
      schemas: Object.fromEntries(Object.entries(components.schemas).sort(([a], [b]) => (a < b ? -1 : 1))),
      examples: Object.fromEntries(errorCodes.map((code) => [code, problemExample(code)])),
      securitySchemes: {
        bearer: {
          type: 'http',
          scheme: 'bearer',
          description:
            'A token of Fishery, `fsh_…`. The first one is in the file `operator.token` of the data directory.',
        },
      },
    },
  };
}

function operationObject(route: DescribedRoute, components: Components): Json {
  const { operation } = route;
  const roles = rolesOf(operation.id);
  return {
    operationId: operation.id,
    tags: [operation.tag],
    summary: operation.summary,
    description: [operation.description, rolesText(roles)].filter(Boolean).join('\n\n'),
    'x-roles': roles === 'open' ? [] : [...roles],
    security: roles === 'open' ? [] : [{ bearer: [] }],
    ...parametersOf(route, components),
    ...requestBodyOf(route, components),
    responses: { ...successesOf(route, components), ...failuresOf(route) },
  };
}

const rolesText = (roles: readonly string[] | 'open'): string =>
  roles === 'open' ? 'Needs no token.' : `For tokens of role ${roles.map((role) => `\`${role}\``).join(', ')}.`;

function parametersOf(route: DescribedRoute, components: Components): Json {
  const parameters = [
    ...parametersIn('path', route.params, components),
    ...parametersIn('query', route.query, components),
    ...(route.operation.produces === 'text/event-stream' ? [lastEventId] : []),
    ...(isConditional(route) ? [ifNoneMatch] : []),
    ...(takesIfMatch(route.operation) ? [{ ...ifMatch, required: route.operation.revision === 'required' }] : []),
    ...(takesKey(route.method, route.operation) ? [idempotencyKey] : []),
  ];
  return parameters.length === 0 ? {} : { parameters };
}

const isConditional = ({ method, operation }: DescribedRoute): boolean =>
  method === 'GET' && operation.revision === 'shown';

const takesIfMatch = ({ revision }: DescribedRoute['operation']): boolean =>
  revision === 'required' || revision === 'optional';

const lastEventId: Json = {
  name: 'Last-Event-ID',
  in: 'header',
  required: false,
  description: 'The revision of the last event that was seen; browsers send it by themselves when they reconnect.',
  schema: { type: 'string', pattern: '^[0-9]{1,16}$' },
};

const ifMatch: Json = {
  name: 'If-Match',
  in: 'header',
  description:
    'The ETag of what is to be changed, as it was read last, or a list of ETags of which one must be it; `*` changes it ' +
    'whatever was done to it since. Only the revision counts, which an ETag begins with.',
  schema: {
    type: 'string',
    pattern: `^(\\*|${ownTagPattern}(?:[ \\t]*,[ \\t]*${ownTagPattern})*)$`,
    examples: ['"42"'],
  },
};

const ifNoneMatch: Json = {
  name: 'If-None-Match',
  in: 'header',
  required: false,
  description: 'The ETags of answers that the client has: when it is one of these, 304 says so instead of the body.',
  schema: { type: 'string', examples: ['"42"'] },
};

const etag: Json = {
  ETag: {
    schema: { type: 'string' },
    description:
      'The revision that is shown, in quotes: what If-Match takes. A digest of the answer follows where that can be another ' +
      'at the same revision. Not on a dry run.',
  },
};

const retryAfter: Json = {
  'Retry-After': { schema: { type: 'integer' }, description: 'Seconds after which it is worth looking again.' },
};

const idempotencyKey: Json = {
  name: 'Idempotency-Key',
  in: 'header',
  required: false,
  description:
    'A name of your own for this request, unlike any other: 1 to 255 visible ASCII characters. The same request under ' +
    'the same key is carried out once, however often it comes; later ones get the answer of the first, with ' +
    '`Idempotency-Replayed: true`, for a day at least.',
  schema: { type: 'string', pattern: '^[!-~]{1,255}$' },
};

function parametersIn(place: 'path' | 'query', schema: z.ZodType | undefined, components: Components): Json[] {
  if (schema === undefined) return [];
  const json = components.of(schema);
  const required = (json['required'] ?? []) as string[];
  const shape: Readonly<Record<string, z.ZodType>> = schema instanceof z.ZodObject ? schema.shape : {};
  return Object.entries((json['properties'] ?? {}) as Record<string, Json>).map(([name, property]) => {
    const { description, ...rest } = property;
    // zod does not tell the default of a number that is read from text; the schema itself does.
    const fallback = shape[name]?.safeParse(undefined).data as JsonValue | undefined;
    return {
      name,
      in: place,
      required: place === 'path' || required.includes(name),
      ...(description === undefined ? {} : { description }),
      schema: { ...(fallback === undefined ? {} : { default: fallback }), ...rest },
    };
  });
}

/** The example is in the first of the media types. */
function contentOf(types: readonly string[], { example, ...rest }: Json): Json {
  return Object.fromEntries(
    types.map((type, index) => [type, example === undefined || index > 0 ? rest : { ...rest, example }]),
  );
}

function requestBodyOf(route: DescribedRoute, components: Components): Json {
  if (route.body === undefined) return {};
  const example = route.operation.examples.body;
  return {
    requestBody: {
      required: !route.body.safeParse(undefined).success,
      content: contentOf(route.operation.consumes ?? ['application/json'], {
        schema: components.of(route.body),
        ...(example === undefined ? {} : { example: example as JsonValue }),
      }),
    },
  };
}

function successesOf(route: DescribedRoute, components: Components): Json {
  const { operation } = route;
  const same = { description: 'It is what the client has, by If-None-Match.', headers: etag };
  const answers: Json = Object.fromEntries(
    Object.entries(operation.answers).map(([status, description]) => {
      const schema = route.answers[status];
      const example = operation.examples.answers[Number(status)];
      const shown = { ...(operation.revision === undefined ? {} : etag), ...(status === '202' ? retryAfter : {}) };
      const headers = Object.keys(shown).length === 0 ? {} : { headers: shown };
      if (schema === undefined || schema instanceof z.ZodVoid) return [status, { description }];
      const content = {
        schema: components.of(schema),
        ...(example === undefined ? {} : { example: example as JsonValue }),
        ...streamOf(operation.id, components),
      };
      const others = Object.entries(operation.alternatives ?? {}).map(([type, text]) => {
        return [type, { schema: { type: 'string' }, example: text }] as const;
      });
      const types = { [operation.produces ?? 'application/json']: content, ...Object.fromEntries(others) };
      return [status, { description, ...headers, content: types }];
    }),
  );
  return isConditional(route) ? { ...answers, 304: same } : answers;
}

const changesOf: { readonly [id in OperationId]?: z.ZodType } = {
  watchMachine: Change,
  watchRoutes: RouteChange,
  watchEvents: LogEntry,
};

/** OpenAPI 3.1 has no words for event streams: which event carries what is told beside the schema. */
function streamOf(id: OperationId, components: Components): Json {
  const change = changesOf[id];
  if (change === undefined) return {};
  const events = {
    change,
    bookmark: Bookmark,
    compacted: Compacted,
    ...(id === 'watchMachine' && { query: FlowQuery }),
  };
  return {
    'x-events': Object.fromEntries(Object.entries(events).map(([name, schema]) => [name, components.of(schema)])),
  };
}

const failureHeaders: Readonly<Record<number, Json>> = {
  401: { 'WWW-Authenticate': { schema: { type: 'string' }, description: 'Which scheme is expected: Bearer.' } },
  429: { 'Retry-After': { schema: { type: 'integer' }, description: 'Seconds until the next request is taken.' } },
  503: { 'Retry-After': { schema: { type: 'integer' }, description: 'Seconds to wait, where that is known.' } },
};

function failuresOf(route: DescribedRoute): Json {
  const byStatus = Map.groupBy(errorsOf(route), (code) => errorKinds[code].status);
  return Object.fromEntries(
    [...byStatus].map(([status, codes]) => [
      String(status),
      {
        description: codes.map((code) => `${errorKinds[code].title} (\`${code}\`)`).join('; '),
        ...(failureHeaders[status] === undefined ? {} : { headers: failureHeaders[status] }),
        content: {
          'application/problem+json': {
            schema: { $ref: '#/components/schemas/Problem' },
            examples: Object.fromEntries(codes.map((code) => [code, { $ref: `#/components/examples/${code}` }])),
          },
        },
      },
    ]),
  );
}

function problemExample(code: ErrorCode): Json {
  const { status, title, cause } = errorKinds[code];
  return { summary: title, value: { type: problemType(code), title, status, code, detail: cause } };
}

/** As it is committed. */
export const openApiText = (document: object): string => `${JSON.stringify(document, null, 2)}\n`;
