import type { FastifyRequest } from 'fastify';
import fp from 'fastify-plugin';
import type { Result } from '../../net/result.ts';
import { rolesOf, type OperationId } from '../access.ts';
import type { Context } from '../context.ts';
import type { Principal } from '../principal.ts';
import { apiProblem, type ApiProblem } from '../problems.ts';

/** Who calls, where the connection tells it. */
export type Callers = Readonly<{
  /** Any other operation is refused. */
  serves: ReadonlySet<OperationId>;
  /** The error is for people: why whoever is at the other end is nobody here. */
  principalOf(request: FastifyRequest): Result<Principal, string>;
  /** Why an operation cannot be carried out as things are; undefined when it can. */
  refusal(operation: OperationId): ApiProblem | undefined;
}>;

/** What a broker serves: everything about sessions and leases on its machine, and what these hang on. */
export const brokerOperations: ReadonlySet<OperationId> = new Set<OperationId>([
  ...(['getAbout', 'getHealth', 'getReadiness', 'getMetrics', 'getOpenApi'] as const),
  ...(['getMachine', 'getHolder', 'listHolders', 'getSlice', 'listSlices', 'listExtents'] as const),
  ...(['openSession', 'listSessions', 'getSession', 'keepSession', 'endSession'] as const),
  ...(['grantLeases', 'explainGrant', 'listLeases', 'getLease', 'releaseLease', 'revokeLease'] as const),
]);

/** What a broker is for: never short for what else a caller asks. Each holds its connection until it is answered. */
const unmetered: ReadonlySet<OperationId> = new Set<OperationId>([
  ...(['openSession', 'keepSession', 'endSession', 'grantLeases', 'releaseLease', 'revokeLease'] as const),
]);
/** Whoever is refused at once asks again at once: what is too much is answered when the next may come, within this. */
const refusal_held_ms_max = 1_000;

/** In the place of plugins/auth.ts: lets a request pass when whoever is at the other end has one of the roles. */
export const callers = fp<Readonly<{ context: Context; callers: Callers }>>(
  async (app, { context, callers: { serves, principalOf, refusal } }) => {
    const { rates, denials, metricsOpen } = context;
    app.decorateRequest('principal', null);

    /** What a caller asks too much of: a page, an unknown path, and what is open to everybody too. */
    const tooMuch = (operation: OperationId | undefined, { token, quota, name }: Principal) => {
      if (operation !== undefined && unmetered.has(operation)) return undefined;
      const verdict = rates.ofToken(operation ?? 'getAbout', { token, quota });
      if (verdict?.isAllowed !== false) return undefined;
      denials.count('rate_of_token');
      const { rate, nextInS } = verdict;
      const detail = `${name} asks for more than it may: ${rate.perS} requests a second, ${rate.burst} at once`;
      const problem = apiProblem('rate_limited', detail, { retryAfterS: Math.max(1, Math.ceil(nextInS)) });
      return { problem, held_ms: Math.min(refusal_held_ms_max, nextInS * 1_000) };
    };

    app.addHook('onRequest', (request, _reply, done) => {
      const operation = request.routeOptions.config.operation?.id;
      const found = principalOf(request);
      const over = found.ok ? tooMuch(operation, found.value) : undefined;
      if (over) {
        setTimeout(() => done(over.problem), over.held_ms);
        return;
      }
      if (operation === undefined) {
        done(request.is404 ? undefined : apiProblem('not_at_broker', 'pages for people are at the server'));
        return;
      }
      if (!serves.has(operation)) {
        done(apiProblem('not_at_broker', `${operation} is not for the broker of a machine to do`));
        return;
      }
      const roles = rolesOf(operation);
      if (roles !== 'open' && !(operation === 'getMetrics' && metricsOpen)) {
        if (!found.ok) {
          denials.count('no_token');
          done(apiProblem('unknown_user', found.error));
          return;
        }
        request.principal = found.value;
        const { role, name } = found.value;
        if (!roles.includes(role)) {
          denials.count('wrong_role');
          done(apiProblem('forbidden', `${operation} is for ${roles.join(', ')}; ${name} is ${role}`));
          return;
        }
      }
      done(refusal(operation));
    });
    // A body takes as long to arrive as its sender likes, and much may happen meanwhile.
    app.addHook('preHandler', (request, _reply, done) => {
      const operation = request.routeOptions.config.operation?.id;
      done(operation === undefined ? undefined : refusal(operation));
    });
  },
  { name: 'fishery-auth', dependencies: ['fishery-problems'] },
);
