import { z } from 'zod';
import { Claim, GrantQuery, LeaseGrant, LeaseListQuery, LeaseRevoke, type Lease } from '../../wire/leases.ts';
import { exitCodes } from '../command.ts';
import { tableOf, type Columns } from '../output/table.ts';
import { placeField, selectorField } from './fields.ts';
import { changeVerb, filtersOf, listVerb, readVerb } from './verb.ts';

const columns: Columns<Lease> = {
  lease: ({ id }) => id,
  holder: ({ holder }) => holder,
  machine: ({ machine }) => machine,
  address: ({ address }) => address,
  protocol: ({ protocol }) => protocol,
  ports: ({ ports }) => ports,
  mode: ({ mode, binding }) => (binding === null ? mode : `${mode} (${binding})`),
  state: ({ state, ending }) => (ending === null ? state : `${state} (${ending})`),
  session: ({ session }) => session,
  granted: ({ granted_at }) => granted_at,
};

export const verbs = [
  listVerb({
    name: 'list',
    summary: 'List leases',
    operations: ['listLeases'],
    flags: filtersOf(LeaseListQuery),
    page: ({ client, flags, options }, page) => client.leases.list({ ...flags, ...page }, options),
    columns,
  }),
  readVerb({
    name: 'get',
    summary: 'Show one lease',
    operations: ['getLease'],
    args: ['lease'],
    read: ({ client, args, options }) => client.leases.get(args.lease, options),
  }),
  changeVerb({
    name: 'grant',
    summary: 'Ask for a lease in a session; `fishery hold` does so for a program',
    operations: ['grantLeases'],
    args: ['session'],
    flags: z.strictObject({
      protocol: Claim.shape.protocol.default('tcp').meta({ description: 'icmp means echo: ports are identifiers' }),
      ports: Claim.shape.ports,
      count: Claim.shape.count,
      mode: Claim.shape.mode,
      binding: Claim.shape.binding,
      pool: Claim.shape.pool.meta({ description: 'The pool that it must come from' }),
      select: selectorField.optional().meta({ description: 'Only from pools whose labels match' }),
      family: Claim.shape.family.meta({ description: 'IP version' }),
      address: Claim.shape.address,
      at: placeField.optional().meta({ description: 'This very block, by ADDRESS:FIRST_PORT' }),
      sticky: Claim.shape.sticky,
      placement: LeaseGrant.shape.placement,
      wait: GrantQuery.shape.wait,
      apply_timeout_s: z.number().min(0).max(60).default(10).meta({
        description: 'How long to wait for the agent to make it true, in seconds',
      }),
    }),
    change: ({ client, args, flags: { wait, apply_timeout_s, placement, ...claim }, options }) =>
      client.leases.grant({ ...args, placement, claims: [claim] }, { ...options, wait, timeoutS: apply_timeout_s }),
    inWords: ({ leases }) => tableOf(columns, leases),
    code: ({ leases }, { flags: { wait }, context }) => {
      const late = wait === 'applied' ? leases.filter(({ state }) => state === 'pending') : [];
      for (const { id } of late) context.complain(`${id} is pending: the agent has not made it true in time`);
      return late.length > 0 ? exitCodes.timedOut : exitCodes.ok;
    },
  }),
  changeVerb({
    name: 'release',
    summary: 'Give a lease back, in the name of its holder',
    operations: ['releaseLease'],
    args: ['lease'],
    flags: z.strictObject({
      token: z.string().optional().meta({
        description: 'The grant that is meant, as the lease shows it; default the present one',
      }),
    }),
    question: ({ args }) => `Release ${args.lease}?`,
    change: async ({ client, args, flags, options }) => {
      const token = flags.token ?? (await client.leases.get(args.lease, options)).token;
      return client.leases.release({ id: args.lease, token }, options);
    },
  }),
  changeVerb({
    name: 'revoke',
    summary: 'Take a lease from its holder',
    operations: ['revokeLease'],
    args: ['lease'],
    flags: z.strictObject({ reason: LeaseRevoke.shape.reason.meta({ description: 'Why; the lease shows it' }) }),
    question: ({ args }) => `Revoke ${args.lease}?`,
    change: ({ client, args, flags, options }) => client.leases.revoke(args.lease, flags, options),
  }),
];
