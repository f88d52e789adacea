import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import fp from 'fastify-plugin';
import { StoreError, type StoreFailure } from '../../leases/store.ts';
import type { ApiErrorCode } from '../errors.ts';
import { ApiProblem, apiProblem } from '../problems.ts';
import { isValidationError, validationProblem } from './validation.ts';

/** What Fastify itself refuses, in the words of the catalogue. */
const fastifyCodes: Readonly<Record<string, ApiErrorCode>> = {
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'unsupported_media_type',
  FST_ERR_CTP_INVALID_TYPE: 'unsupported_media_type',
  FST_ERR_CTP_BODY_TOO_LARGE: 'body_too_large',
  FST_ERR_CTP_EMPTY_JSON_BODY: 'malformed_request',
  FST_ERR_CTP_INVALID_JSON_BODY: 'malformed_request',
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: 'malformed_request',
  FST_ERR_BAD_URL: 'malformed_request',
  FST_ERR_MAX_PARAM_LENGTH: 'uri_too_long',
};

/** A violated constraint is missing here: that is a bug, like every other exception. */
const storeFailures: Readonly<Record<Exclude<StoreFailure, 'constraint'>, ApiErrorCode>> = {
  full: 'read_only',
  read_only: 'read_only',
  busy: 'read_only',
  corrupt: 'read_only',
  io: 'read_only',
  unknown: 'outcome_unknown',
  closed: 'shutting_down',
  overloaded: 'overloaded',
};

export const problemMediaType = 'application/problem+json; charset=utf-8';

type ProblemOptions = Readonly<{ onProblem: (request: FastifyRequest, problem: ApiProblem) => void }>;

/** Every answer that is no success is a problem document, whoever found the fault. */
export const problems = fp<ProblemOptions>(
  async (app, { onProblem }) => {
    app.setErrorHandler<FastifyError>((error, request, reply) => {
      const problem = problemOf(error, request);
      onProblem(request, problem);
      if (problem.status >= 500 && problem.code === 'internal_error')
        request.log.error({ err: error }, 'internal error');
      // Refused by a rule: as it should be, and in the metrics. What failed below is the operator's to know of.
      else if (problem.status >= 500 && error instanceof ApiProblem)
        request.log.debug({ code: problem.code }, problem.message);
      else if (problem.status >= 500) request.log.warn({ code: problem.code, err: error }, problem.message);
      return sendProblem(problem, request, reply);
    });
    app.setNotFoundHandler((request, reply) => {
      const methods = methodsOf(app, request);
      const detail = `nothing answers ${request.method} ${pathOf(request)}`;
      const problem =
        methods.length === 0
          ? apiProblem('not_found', detail)
          : apiProblem('method_not_allowed', detail, { headers: { allow: methods.join(', ') } });
      return sendProblem(problem, request, reply);
    });
  },
  { name: 'fishery-problems', dependencies: ['fishery-validation'] },
);

/** The methods that the operations at the path of a request have. */
function methodsOf(app: FastifyInstance, request: FastifyRequest): readonly string[] {
  const path = (request.url.split('?', 1)[0] ?? '').split('/');
  const isHere = (url: string) => {
    const parts = url.split('/');
    return parts.length === path.length && parts.every((part, i) => part === path[i] || part[0] === ':');
  };
  return app.operations
    .filter(({ url }) => isHere(url))
    .flatMap(({ method, url }) =>
      method === 'GET' && app.hasRoute({ method: 'HEAD', url }) ? [method, 'HEAD'] : [method],
    );
}

export function problemOf(error: FastifyError | ApiProblem, request: FastifyRequest): ApiProblem {
  if (error instanceof ApiProblem) return error;
  if (isValidationError(error)) return validationProblem(error, request);
  const code = fastifyCodes[error.code];
  if (code === 'body_too_large')
    return apiProblem(code, `the body has more than the ${request.routeOptions.bodyLimit} bytes that are taken`);
  if (code !== undefined) return apiProblem(code, error.message.slice(0, detail_characters_max));
  const cause: unknown = error;
  if (cause instanceof StoreError && cause.failure !== 'constraint')
    return apiProblem(storeFailures[cause.failure], cause.message, { retryAfterS: 1 });
  return apiProblem('internal_error', `see the log of the server under ${request.id}`);
}

export function sendProblem(problem: ApiProblem, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const document = problem.document(pathOf(request), request.id);
  if (document.retry_after_s !== undefined) reply.header('retry-after', document.retry_after_s);
  for (const [name, value] of Object.entries(problem.extras.headers ?? {})) reply.header(name, value);
  // Serialized here: Fastify would look for a serializer by status, and there is one document for all of them.
  return reply.code(problem.status).type(problemMediaType).send(JSON.stringify(document));
}

/** A problem repeats of the request what helps, not what somebody made as long as they could. */
const detail_characters_max = 300;
const pathOf = (request: FastifyRequest): string =>
  (request.url.split('?', 1)[0] ?? '/').slice(0, detail_characters_max);
