import fp from 'fastify-plugin';
import { rolesOf } from '../access.ts';
import { bearerOf, hashSecret, isWellFormedSecret } from '../bearer.ts';
import { apiProblem, type ApiProblem } from '../problems.ts';
import type { Context } from '../context.ts';

/**
 * Lets a request pass when its token has one of the roles that the operation is open to. This happens before the body is
 * read: a stranger's megabyte is not worth parsing.
 */
export const auth = fp<{ context: Context }>(
  async (app, { context: { tokens, uses, metricsOpen } }) => {
    app.decorateRequest('principal', null);
    app.addHook('onRequest', async (request) => {
      const operation = request.routeOptions.config.operation;
      if (operation === undefined) return;
      const roles = rolesOf(operation.id);
      if (roles === 'open' || (operation.id === 'getMetrics' && metricsOpen)) return;

      const secret = bearerOf(request.headers.authorization);
      if (secret === undefined) throw unauthenticated('a bearer token is required');
      if (!isWellFormedSecret(secret))
        throw unauthenticated('this is no token of Fishery: it is cut short or mistyped');
      const secretHash = hashSecret(secret);
      const credential = await tokens.find(secretHash);
      if (credential === undefined)
        throw unauthenticated('the token is unknown, was revoked or replaced, or has expired');
      const { token, validUntil } = credential;
      uses.note(token.id);
      if (!roles.includes(token.role))
        throw apiProblem('forbidden', `${operation.id} is for ${listed(roles)}; this token is of role ${token.role}`);
      const { id, name, role, machine, holder, router, quota } = token;
      request.principal = { token: id, name, role, machine, holder, router, quota, secretHash, validUntil };
    });
  },
  { name: 'fishery-auth', dependencies: ['fishery-problems'] },
);

const unauthenticated = (detail: string): ApiProblem =>
  apiProblem('unauthenticated', detail, { headers: { 'www-authenticate': 'Bearer realm="fishery"' } });

const listed = (roles: readonly string[]): string =>
  roles.length < 2 ? roles.join('') : `${roles.slice(0, -1).join(', ')} and ${roles.at(-1) ?? ''}`;
