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

/** In the place of plugins/auth.ts: lets a request pass when whoever is at the other end has one of the roles. */
export const callers = fp<Readonly<{ context: Context; callers: Callers }>>(
  async (app, { context, callers: { serves, principalOf, refusal } }) => {
    app.decorateRequest('principal', null);
    app.addHook('onRequest', (request, _reply, done) => {
      const operation = request.routeOptions.config.operation?.id;
      if (operation === undefined) {
        done();
        return;
      }
      if (!serves.has(operation)) {
        done(apiProblem('not_at_broker', `${operation} is not for the broker of a machine to do`));
        return;
      }
      const roles = rolesOf(operation);
      if (roles !== 'open' && !(operation === 'getMetrics' && context.metricsOpen)) {
        const found = principalOf(request);
        if (!found.ok) {
          context.denials.count('no_token');
          done(apiProblem('unknown_user', found.error));
          return;
        }
        request.principal = found.value;
        if (!roles.includes(found.value.role)) {
          context.denials.count('wrong_role');
          done(
            apiProblem(
              'forbidden',
              `${operation} is for ${roles.join(', ')}; ${found.value.name} is ${found.value.role}`,
            ),
          );
          return;
        }
      }
      done(refusal(operation));
    });
  },
  { name: 'fishery-auth', dependencies: ['fishery-problems'] },
);
