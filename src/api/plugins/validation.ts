import type { FastifyError, FastifyRequest } from 'fastify';
import fp from 'fastify-plugin';
import { z } from 'zod';
import { apiProblem, type ApiProblem, type ProblemPart } from '../problems.ts';

/** The parts in the order in which Fastify checks them, with the name that a problem calls each by. */
const parts = [
  { schema: 'params', property: 'params', path: 'path' },
  { schema: 'body', property: 'body', path: 'body' },
  { schema: 'querystring', property: 'query', path: 'query' },
] as const;

/** So many wrong parts are listed; a body with ten thousand mistakes must not be answered with a megabyte. */
const errors_max = 100;

/**
 * zod itself checks every request, so that refinements and transforms hold; no second schema language can disagree.
 * Answers are written with JSON.stringify: a compiled serializer would save a third of a microsecond of the eighty that a
 * request takes, and would silently drop what its schema does not know, which the tests should rather find.
 */
export const validation = fp(
  async (app) => {
    app.setValidatorCompiler<z.ZodType>(({ schema }) => (data: unknown) => {
      // Fastify passes null where there is no body at all.
      const parsed = schema.safeParse(data ?? undefined);
      return parsed.success ? { value: parsed.data } : { error: new Error('not valid') };
    });
    app.setSerializerCompiler(() => (data) => JSON.stringify(data));
  },
  { name: 'fishery-validation' },
);

/**
 * The problem for a request that did not validate. Fastify stops at the first part that is wrong; a caller wants to know
 * of all of them, so the parts that it did not come to are checked here.
 */
export function validationProblem(error: FastifyError, request: FastifyRequest): ApiProblem {
  const schemas = request.routeOptions.schema;
  const failed = parts.findIndex((part) => part.property === contextProperty(error));
  const errors: ProblemPart[] = [];
  const seen = new Set<string>();
  for (const [index, { schema: key, property, path }] of parts.entries()) {
    if (index < failed) continue;
    const schema = schemas?.[key];
    if (!(schema instanceof z.ZodType)) continue;
    const parsed = schema.safeParse(request[property] ?? undefined);
    for (const issue of parsed.error?.issues ?? [])
      for (const wrong of explain(issue, path, request[property]))
        // The first thing that is wrong with a part is enough to mend it by.
        if (!seen.has(wrong.path)) {
          seen.add(wrong.path);
          errors.push(wrong);
        }
  }
  const shown = errors.slice(0, errors_max);
  const [first] = shown;
  const more = errors.length > 1 ? `, and ${errors.length - 1} more` : '';
  return apiProblem('validation_failed', first ? `${first.path}: ${first.message}${more}` : error.message, {
    errors: shown,
  });
}

/** Fastify names the part `querystring` in the error and `query` on the request. */
const contextProperty = (error: FastifyError): string | undefined =>
  error.validationContext === 'querystring' ? 'query' : error.validationContext;

export const isValidationError = (error: FastifyError): boolean => error.validationContext !== undefined;

/** One entry per wrong part: an unknown key is named where it stands, not at the object around it. */
function explain(issue: z.core.$ZodIssue, part: string, given: unknown): readonly ProblemPart[] {
  const path = [part, ...issue.path].reduce<string>(append, '');
  if (issue.code === 'unrecognized_keys')
    return issue.keys.map((key) => ({ path: append(path, key), message: 'nobody knows this key' }));
  if (issue.code === 'invalid_type' && valueAt(given, issue.path) === undefined)
    return [{ path, message: part === 'body' && issue.path.length === 0 ? 'a JSON body is required' : 'is required' }];
  if (issue.code === 'invalid_format' && issue.format === 'regex')
    return [{ path, message: `must match ${issue.pattern ?? 'its pattern'}` }];
  if (issue.code === 'invalid_key') return [{ path, message: issue.issues[0]?.message ?? issue.message }];
  return [{ path, message: issue.message }];
}

/** `a.b[0]`, and `a["strange key"]` for what would not read as a name. */
function append(path: string, key: PropertyKey): string {
  if (typeof key === 'number') return `${path}[${key}]`;
  const name = String(key);
  if (!/^[A-Za-z_][\w-]*$/.test(name)) return `${path}[${JSON.stringify(name.slice(0, 80))}]`;
  return path === '' ? name : `${path}.${name}`;
}

const valueAt = (value: unknown, path: readonly PropertyKey[]): unknown =>
  path.reduce<unknown>(
    (part, key) => (typeof part === 'object' && part !== null ? Reflect.get(part, key) : undefined),
    value,
  );
