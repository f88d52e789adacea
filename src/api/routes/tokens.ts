import { z } from 'zod';
import type { TokenExpiry } from '../../leases/commands.ts';
import type { AccessToken, TokenQuota } from '../../leases/model.ts';
import { parseInstant } from '../../wire/instants.ts';
import { TokenId } from '../../wire/primitives.ts';
import * as wire from '../../wire/tokens.ts';
import { formatSecret, hashSecret, secretBytes } from '../bearer.ts';
import * as examples from '../examples.ts';
import { operation } from '../operation.ts';
import { page, presentToken } from '../present.ts';
import { principalOf } from '../principal.ts';
import { leaseProblem } from '../problems.ts';
import { defined, numberOf, pageRequest } from '../requests.ts';
import { isDryRun, resource, run } from '../resource.ts';

const ByTokenId = z.strictObject({ id: TokenId });

type ExpiryGiven = Readonly<{ ttl_s?: number | undefined; expires_at?: string | null | undefined }>;

/** Nothing where nothing was said about it. */
function expiryIn({ ttl_s, expires_at }: ExpiryGiven): { expiry?: TokenExpiry } {
  if (ttl_s !== undefined) return { expiry: { ttlUs: ttl_s * 1_000_000 } };
  if (expires_at === undefined) return {};
  return { expiry: expires_at === null ? null : { at: parseInstant(expires_at) } };
}

function quotaIn(limits: z.output<typeof wire.TokenLimits> | undefined): { quota?: TokenQuota } {
  if (limits === undefined) return {};
  const { requests_per_s: requestsPerS, requests_burst: requestsBurst, watchers_max: watchersMax } = limits;
  return { quota: { requestsPerS, requestsBurst, watchersMax } };
}

export const tokenRoutes = resource('tokens', (app, context) => {
  async function tokenOf(id: number): Promise<AccessToken> {
    const token = await context.reader.accessTokenById(id);
    if (token === undefined) throw leaseProblem({ code: 'token_not_found', token: id }, context.clock.nowUs());
    return token;
  }

  app.post(
    '/v1/tokens',
    {
      schema: { body: wire.TokenCreate, response: { 201: wire.TokenCreated } },
      config: operation({
        id: 'createToken',
        tag: 'access',
        summary: 'Make a bearer token',
        description:
          'An agent token is bound to one machine, a holder token to one holder on one machine, a router token to one ' +
          'router. Only a hash is stored: the secret is in this answer and nowhere else. That of a dry run opens nothing.',
        answers: { 201: 'The token and its secret.' },
        errors: ['machine_not_found', 'holder_not_found', 'router_not_found', 'token_expiry_past', 'secret_shown_once'],
        dryRun: true,
        examples: { body: examples.tokenCreate, answers: { 201: examples.tokenCreated } },
      }),
    },
    async (request, reply) => {
      const { body } = request;
      const secret = formatSecret(context.randomBytes(secretBytes));
      const token = await run(context, request, {
        kind: 'createToken',
        name: body.name,
        role: body.role,
        machine: body.machine ?? null,
        holder: body.holder ?? null,
        router: body.router ?? null,
        hash: hashSecret(secret),
        ...expiryIn(body),
        ...quotaIn(body.limits),
      });
      return reply.code(201).send({ token: presentToken(token), secret });
    },
  );

  app.get(
    '/v1/tokens',
    {
      schema: { querystring: wire.TokenListQuery, response: { 200: wire.TokenPage } },
      config: operation({
        id: 'listTokens',
        tag: 'access',
        summary: 'List the tokens',
        answers: {
          200: 'One page of tokens, those that expired or were revoked too. Secrets are not stored and cannot be shown.',
        },
        errors: [],
        examples: { answers: { 200: examples.pageWith(examples.token) } },
      }),
    },
    async ({ query }) => {
      const { role, machine, holder, router } = query;
      const filter = defined({ role, machine, holder, router });
      return page(await context.reader.accessTokens(filter, pageRequest(query, 'number')), presentToken);
    },
  );

  app.get(
    '/v1/tokens/self',
    {
      schema: { response: { 200: wire.TokenInfo } },
      config: operation({
        id: 'getOwnToken',
        tag: 'access',
        summary: 'Learn what the token of this request is',
        answers: { 200: 'Its role, what it is bound to, how much it may ask for, and when it expires.' },
        errors: [],
        examples: { answers: { 200: examples.token } },
      }),
    },
    async (request) => presentToken(await tokenOf(principalOf(request).token)),
  );

  app.get(
    '/v1/tokens/:id',
    {
      schema: { params: ByTokenId, response: { 200: wire.TokenInfo } },
      config: operation({
        id: 'getToken',
        tag: 'access',
        summary: 'Read a token',
        answers: { 200: 'The token. Its secret is not stored and cannot be shown.' },
        errors: ['token_not_found'],
        examples: { answers: { 200: examples.token } },
      }),
    },
    async ({ params }) => presentToken(await tokenOf(numberOf(params.id))),
  );

  app.patch(
    '/v1/tokens/:id',
    {
      schema: { params: ByTokenId, body: wire.TokenUpdate, response: { 200: wire.TokenInfo } },
      config: operation({
        id: 'updateToken',
        tag: 'access',
        summary: 'Rename a token, move its expiry, or limit how much it may ask for',
        description: 'It takes effect on every server at once. A token that is over stays so.',
        answers: { 200: 'The token as it is now.' },
        errors: ['token_not_found', 'token_not_live', 'token_expiry_past'],
        dryRun: true,
        examples: { body: examples.tokenUpdate, answers: { 200: examples.limitedToken } },
      }),
    },
    async (request) => {
      const { params, body } = request;
      const { name, limits } = body;
      const changes = { ...defined({ name }), ...expiryIn(body), ...quotaIn(limits) };
      const token = await run(context, request, { kind: 'updateToken', id: numberOf(params.id), ...changes });
      context.tokens.forget(token.id);
      return presentToken(token);
    },
  );

  app.post(
    '/v1/tokens/:id/rotate',
    {
      schema: { params: ByTokenId, body: wire.TokenRotate, response: { 200: wire.TokenCreated } },
      config: operation({
        id: 'rotateToken',
        tag: 'access',
        summary: 'Replace the secret of a token',
        description:
          'The token stays the same: its id, its role, what it is bound to. Its former secret is accepted for `grace_s` more, ' +
          'so that whoever uses it can be given the new one; the secret before that is refused from now on. Streams that were ' +
          'opened with a secret end when it does.',
        answers: { 200: 'The token and its new secret.' },
        errors: ['token_not_found', 'token_not_live', 'token_expiry_past', 'secret_shown_once'],
        dryRun: true,
        examples: { body: examples.tokenRotate, answers: { 200: examples.rotatedToken } },
      }),
    },
    async (request) => {
      const { params, body } = request;
      const secret = formatSecret(context.randomBytes(secretBytes));
      const token = await run(context, request, {
        kind: 'rotateToken',
        id: numberOf(params.id),
        hash: hashSecret(secret),
        graceUs: body.grace_s * 1_000_000,
        ...expiryIn(body),
      });
      context.tokens.forget(token.id);
      return { token: presentToken(token), secret };
    },
  );

  app.delete(
    '/v1/tokens/:id',
    {
      schema: { params: ByTokenId, response: { 200: wire.TokenInfo } },
      config: operation({
        id: 'revokeToken',
        tag: 'access',
        summary: 'Revoke a token',
        description:
          'It is refused from the next request on, on every server as soon as it hears of it (a few milliseconds; 5 s when a ' +
          'server is cut off from the others), and its event streams are closed.',
        answers: { 200: 'The token, revoked.' },
        errors: ['token_not_found'],
        dryRun: true,
        examples: { answers: { 200: examples.revokedToken } },
      }),
    },
    async (request) => {
      const token = await run(context, request, { kind: 'revokeToken', id: numberOf(request.params.id) });
      if (isDryRun(request)) return presentToken(token);
      context.tokens.forget(token.id);
      context.watchers.endOf(token.id);
      return presentToken(token);
    },
  );
});
