import { z } from 'zod';
import { PageQuery } from '../../wire/lists.ts';
import { TokenId } from '../../wire/primitives.ts';
import * as wire from '../../wire/tokens.ts';
import { formatSecret, hashSecret, secretBytes } from '../bearer.ts';
import * as examples from '../examples.ts';
import { operation } from '../operation.ts';
import { page, presentToken } from '../present.ts';
import { numberOf, pageRequest } from '../requests.ts';
import { isDryRun, resource, run } from '../resource.ts';

export const tokenRoutes = resource('tokens', (app, context) => {
  app.post(
    '/v1/tokens',
    {
      schema: { body: wire.TokenCreate, response: { 201: wire.TokenCreated } },
      config: operation({
        id: 'createToken',
        tag: 'access',
        summary: 'Make a bearer token',
        description:
          'An agent token is bound to one machine, a holder token to one holder on one machine. Only a hash is stored: the ' +
          'secret is in this answer and nowhere else. That of a dry run opens nothing.',
        answers: { 201: 'The token and its secret.' },
        errors: ['machine_not_found', 'holder_not_found'],
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
        hash: hashSecret(secret),
      });
      return reply.code(201).send({ token: presentToken(token), secret });
    },
  );

  app.get(
    '/v1/tokens',
    {
      schema: { querystring: PageQuery, response: { 200: wire.TokenPage } },
      config: operation({
        id: 'listTokens',
        tag: 'access',
        summary: 'List the tokens',
        answers: { 200: 'One page of tokens, revoked ones too. Secrets are not stored and cannot be shown.' },
        errors: [],
        examples: { answers: { 200: examples.pageWith(examples.token) } },
      }),
    },
    async ({ query }) => page(await context.reader.accessTokens(pageRequest(query, 'number')), presentToken),
  );

  app.delete(
    '/v1/tokens/:id',
    {
      schema: { params: z.strictObject({ id: TokenId }), response: { 200: wire.TokenInfo } },
      config: operation({
        id: 'revokeToken',
        tag: 'access',
        summary: 'Revoke a token',
        description: 'It is refused from the next request on, and its event streams are closed.',
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
