import type { IncomingMessage } from 'node:http';
import type { FastifyReply, FastifyRequest } from 'fastify';
import fp from 'fastify-plugin';
import type { AccessToken } from '../../leases/model.ts';
import { rolesOf } from '../access.ts';
import { bearerOf, hashSecret, isWellFormedSecret } from '../bearer.ts';
import { apiProblem, type ApiProblem } from '../problems.ts';
import { certificateNames, showedCertificate, type TlsListener } from '../tls.ts';
import type { Context } from '../context.ts';
import type { DenialReason } from '../denials.ts';
import type { Verdict } from '../rate-limits.ts';
import type { Credential } from '../token-cache.ts';

/**
 * Lets a request pass when its token has one of the roles that the operation is open to. This happens before the body is
 * read: a stranger's megabyte is not worth parsing.
 */
export const auth = fp<{ context: Context }>(
  async (app, { context }) => {
    const { tokens, uses, rates, denials, metricsOpen, tls } = context;
    app.decorateRequest('principal', null);

    const deny = (reason: DenialReason, problem: ApiProblem): ApiProblem => {
      denials.count(reason);
      return problem;
    };
    const chargeStranger = (request: FastifyRequest) => {
      const verdict = rates.ofStranger(request.ip);
      if (verdict?.isAllowed === false)
        throw deny('rate_of_address', rateLimited(verdict, `this address sends too much without a valid token`));
    };

    /** The token of a request. Who shows none, or none that is known here, pays by address before anything is looked up. */
    async function authenticate(request: FastifyRequest): Promise<Credential & { secretHash: string }> {
      const secret = bearerOf(request.headers.authorization);
      if (secret === undefined) {
        chargeStranger(request);
        throw deny('no_token', unauthenticated('a bearer token is required'));
      }
      if (!isWellFormedSecret(secret)) {
        chargeStranger(request);
        throw deny('malformed_token', unauthenticated('this is no token of Fishery: it is cut short or mistyped'));
      }
      const secretHash = hashSecret(secret);
      const isKnown = tokens.knows(secretHash);
      if (!isKnown) chargeStranger(request);
      const credential = await tokens.find(secretHash);
      if (credential === undefined && isKnown) chargeStranger(request);
      if (credential === undefined)
        throw deny('unknown_token', unauthenticated('the token is unknown, was revoked or replaced, or has expired'));
      if (!isKnown) rates.isNoStranger(request.ip);
      return { ...credential, secretHash };
    }

    app.addHook('onRequest', async (request, reply) => {
      const operation = request.routeOptions.config.operation;
      if (operation === undefined || operation.id === 'getHealth' || operation.id === 'getReadiness') return;
      const roles = rolesOf(operation.id);
      if (roles === 'open' || (operation.id === 'getMetrics' && metricsOpen)) {
        chargeStranger(request);
        return;
      }
      const { token, validUntil, secretHash } = await authenticate(request);
      uses.note(token.id);
      // Known from here on, also to the audit log of those who are turned away.
      const { id, name, role, machine, holder, router, quota } = token;
      request.principal = { token: id, name, role, machine, holder, router, quota, secretHash, validUntil };
      const verdict = rates.ofToken(operation.id, { token: token.id, quota: token.quota });
      if (verdict !== undefined) tellRate(reply, verdict);
      if (verdict?.isAllowed === false)
        throw deny('rate_of_token', rateLimited(verdict, `token-${token.id} asks for more than it may`));
      if (!roles.includes(token.role))
        throw deny(
          'wrong_role',
          apiProblem('forbidden', `${operation.id} is for ${listed(roles)}; this token is of role ${token.role}`),
        );
      const flaw = tls && certificateFlaw(tls, request.raw, token);
      if (flaw !== undefined) throw deny('no_certificate', apiProblem('client_certificate_required', flaw));
    });
  },
  { name: 'fishery-auth', dependencies: ['fishery-problems'] },
);

/** RateLimit and RateLimit-Policy, as the HTTP working group drafts them: the quota is the burst, its window what refills it. */
function tellRate(reply: FastifyReply, { rate, remaining, fullInS }: Verdict): void {
  reply.header('ratelimit-policy', `"token";q=${rate.burst};w=${Math.ceil(rate.burst / rate.perS)}`);
  reply.header('ratelimit', `"token";r=${remaining};t=${Math.ceil(fullInS)}`);
}

const rateLimited = ({ rate, nextInS }: Verdict, who: string): ApiProblem =>
  apiProblem('rate_limited', `${who}: ${rate.perS} requests a second, ${rate.burst} at once`, {
    retryAfterS: Math.max(1, Math.ceil(nextInS)),
  });

/**
 * Why the connection is not good enough for the token. A token alone is not enough where certificates are asked for: whoever
 * copies it has not copied the key, too.
 */
function certificateFlaw(
  tls: TlsListener,
  request: IncomingMessage,
  { role, machine }: AccessToken,
): string | undefined {
  if (tls.clientCertificates === 'agents' && role === 'agent' && !showedCertificate(request))
    return 'tokens of agents are taken over connections with a certificate only';
  if (tls.nameMachines && machine !== null && !certificateNames(request, machine))
    return `the token is bound to "${machine}", which no certificate was shown for`;
  return undefined;
}

const unauthenticated = (detail: string): ApiProblem =>
  apiProblem('unauthenticated', detail, { headers: { 'www-authenticate': 'Bearer realm="fishery"' } });

const listed = (roles: readonly string[]): string =>
  roles.length < 2 ? roles.join('') : `${roles.slice(0, -1).join(', ')} and ${roles.at(-1) ?? ''}`;
