import type { IncomingMessage } from 'node:http';
import fp from 'fastify-plugin';
import type { AccessToken } from '../../leases/model.ts';
import { rolesOf } from '../access.ts';
import { bearerOf, hashSecret, isWellFormedSecret } from '../bearer.ts';
import { apiProblem, type ApiProblem } from '../problems.ts';
import { certificateNames, showedCertificate, type TlsListener } from '../tls.ts';
import type { Context } from '../context.ts';

/**
 * Lets a request pass when its token has one of the roles that the operation is open to. This happens before the body is
 * read: a stranger's megabyte is not worth parsing.
 */
export const auth = fp<{ context: Context }>(
  async (app, { context: { tokens, uses, metricsOpen, tls } }) => {
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
      if (tls !== undefined) requireCertificate(tls, request.raw, token);
      const { id, name, role, machine, holder, router, quota } = token;
      request.principal = { token: id, name, role, machine, holder, router, quota, secretHash, validUntil };
    });
  },
  { name: 'fishery-auth', dependencies: ['fishery-problems'] },
);

/** A token alone is not enough where certificates are asked for: whoever copies it has not copied the key, too. */
function requireCertificate(tls: TlsListener, request: IncomingMessage, { role, machine }: AccessToken): void {
  if (tls.clientCertificates === 'agents' && role === 'agent' && !showedCertificate(request))
    throw apiProblem(
      'client_certificate_required',
      'tokens of agents are taken over connections with a certificate only',
    );
  if (tls.nameMachines && machine !== null && !certificateNames(request, machine))
    throw apiProblem(
      'client_certificate_required',
      `the token is bound to "${machine}", which no certificate was shown for`,
    );
}

const unauthenticated = (detail: string): ApiProblem =>
  apiProblem('unauthenticated', detail, { headers: { 'www-authenticate': 'Bearer realm="fishery"' } });

const listed = (roles: readonly string[]): string =>
  roles.length < 2 ? roles.join('') : `${roles.slice(0, -1).join(', ')} and ${roles.at(-1) ?? ''}`;
