import { z } from 'zod';
import {
  TokenCreate,
  TokenListQuery,
  TokenLimits,
  TokenRotate,
  TokenUpdate,
  type TokenInfo,
} from '../../wire/tokens.ts';
import type { Columns } from '../output/table.ts';
import { changeVerb, filtersOf, listVerb, readVerb } from './verb.ts';

const columns: Columns<TokenInfo> = {
  token: ({ id }) => id,
  name: ({ name }) => name,
  role: ({ role }) => role,
  machine: ({ machine }) => machine,
  holder: ({ holder }) => holder,
  router: ({ router }) => router,
  created: ({ created_at }) => created_at,
  'last used': ({ last_used_at }) => last_used_at,
  expires: ({ expires_at }) => expires_at,
  revoked: ({ revoked_at }) => revoked_at,
};

/** The limits of a token, each a flag of its own. */
const limitFlag = (limit: keyof typeof TokenLimits.shape) => {
  const schema = TokenLimits.shape[limit];
  return schema.unwrap().unwrap().optional().meta({ description: schema.description });
};
const limitFlags = {
  requests_per_s: limitFlag('requests_per_s'),
  requests_burst: limitFlag('requests_burst'),
  watchers_max: limitFlag('watchers_max'),
};
const limitsOf = (flags: Readonly<{ [key in keyof typeof limitFlags]?: number | undefined }>) => {
  const { requests_per_s, requests_burst, watchers_max } = flags;
  const isGiven = [requests_per_s, requests_burst, watchers_max].some((limit) => limit !== undefined);
  return isGiven ? { limits: { requests_per_s, requests_burst, watchers_max } } : {};
};

const secretDetails = (
  call: string,
) => `The secret is the member \`secret\` of the answer. Into a file for its owner alone:

  (umask 077; fishery tokens ${call} --json | jq -r .secret > agent.token)`;

export const verbs = [
  listVerb({
    name: 'list',
    summary: 'List access tokens; their secrets are stored nowhere',
    operations: ['listTokens'],
    flags: filtersOf(TokenListQuery),
    page: ({ client, flags, options }, page) => client.tokens.list({ ...flags, ...page }, options),
    columns,
  }),
  changeVerb({
    name: 'create',
    summary: 'Make an access token; its secret is shown this once',
    operations: ['createToken'],
    flags: z.strictObject({
      name: TokenCreate.shape.name.meta({ description: 'What to call it' }),
      role: TokenCreate.shape.role.meta({ description: 'What it may do' }),
      machine: TokenCreate.shape.machine.meta({ description: 'Of an agent or a holder' }),
      holder: TokenCreate.shape.holder.meta({ description: 'Of a holder' }),
      router: TokenCreate.shape.router.meta({ description: 'Of a router' }),
      ttl_s: TokenCreate.shape.ttl_s,
      expires_at: TokenCreate.shape.expires_at,
      ...limitFlags,
    }),
    details: secretDetails('create --name edge-1 --role agent --machine edge-1'),
    change: ({ client, flags: { requests_per_s, requests_burst, watchers_max, ...flags }, options }) =>
      client.tokens.create({ ...flags, ...limitsOf({ requests_per_s, requests_burst, watchers_max }) }, options),
  }),
  readVerb({
    name: 'get',
    summary: 'Show one access token, without its secret',
    operations: ['getToken'],
    args: ['token'],
    read: ({ client, args, options }) => client.tokens.get(args.token, options),
  }),
  readVerb({
    name: 'self',
    summary: 'Show the access token that is used here: its role, and until when',
    operations: ['getOwnToken'],
    read: ({ client, options }) => client.tokens.self(options),
  }),
  changeVerb({
    name: 'update',
    summary: 'Change name, expiry or limits of an access token',
    operations: ['updateToken'],
    args: ['token'],
    flags: z.strictObject({
      name: TokenUpdate.shape.name.meta({ description: 'What to call it' }),
      ttl_s: TokenUpdate.shape.ttl_s,
      expires_at: TokenCreate.shape.expires_at,
      never_expires: z.boolean().default(false).meta({ description: 'Take the expiry away' }),
      ...limitFlags,
    }),
    details: 'Limits are replaced as a whole: those that are not given are as the server is set.',
    change: ({ client, args, flags, options }) => {
      const { requests_per_s, requests_burst, watchers_max, never_expires, ...rest } = flags;
      const limits = limitsOf({ requests_per_s, requests_burst, watchers_max });
      return client.tokens.update(
        args.token,
        { ...rest, ...(never_expires ? { expires_at: null } : {}), ...limits },
        options,
      );
    },
  }),
  changeVerb({
    name: 'rotate',
    summary: 'Give an access token a new secret; the one before stays good for a while',
    operations: ['rotateToken'],
    args: ['token'],
    flags: z.strictObject(TokenRotate.shape),
    details: secretDetails('rotate token-42'),
    change: ({ client, args, flags, options }) => client.tokens.rotate(args.token, flags, options),
  }),
  changeVerb({
    name: 'revoke',
    summary: 'Revoke an access token; it opens nothing from then on',
    operations: ['revokeToken'],
    args: ['token'],
    question: ({ args }) => `Revoke ${args.token}?`,
    change: ({ client, args, options }) => client.tokens.revoke(args.token, options),
  }),
];
