import { z } from 'zod';
import { GrantQuery, LeaseListQuery, LeaseRevoke, type Lease, type LeaseList } from '../../wire/leases.ts';
import { exitCodes } from '../command.ts';
import { tableOf, type Columns } from '../output/table.ts';
import { claimFlags, claimsOf } from './claims.ts';
import { changeVerb, filtersOf, listVerb, readVerb, whoseFlags, whoseOf } from './verb.ts';

const columns: Columns<Lease> = {
  lease: ({ id }) => id,
  holder: ({ holder }) => holder,
  machine: ({ machine }) => machine,
  address: ({ address }) => address,
  protocol: ({ protocol }) => protocol,
  ports: ({ ports }) => ports,
  mode: ({ mode, binding }) => (binding === null ? mode : `${mode} (${binding})`),
  state: ({ state, ending }) => (ending === null ? state : `${state} (${ending})`),
  allocator: ({ allocator }) => allocator ?? 'server',
  session: ({ session }) => session,
  granted: ({ granted_at }) => granted_at,
};

const grantFlags = z.strictObject({
  ...claimFlags.shape,
  wait: GrantQuery.shape.wait,
  apply_timeout_s: z.number().min(0).max(60).default(10).meta({
    description: 'How long to wait for the agent to make it true, in seconds',
  }),
});

/** What is said of leases that were asked for. */
const granted = {
  inWords: ({ leases }: LeaseList) => tableOf(columns, leases),
  code: ({ leases }: LeaseList, { flags: { wait }, context }: GrantCall) => {
    const late = wait === 'applied' ? leases.filter(({ state }) => state === 'pending') : [];
    for (const { id } of late) context.complain(`${id} is pending: the agent has not made it true in time`);
    return late.length > 0 ? exitCodes.timedOut : exitCodes.ok;
  },
};
type GrantCall = Readonly<{
  flags: Readonly<{ wait: 'applied' | 'stored' }>;
  context: Readonly<{ complain: (line: string) => void }>;
}>;

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
    flags: z.strictObject(whoseFlags),
    read: ({ client, args, flags, options }) => client.leases.get(args.lease, { ...options, ...whoseOf(flags) }),
  }),
  changeVerb({
    name: 'grant',
    summary: 'Ask for leases in a session, all or none; `fishery hold` does so for a program',
    operations: ['grantLeases'],
    args: ['session'],
    flags: grantFlags.extend(whoseFlags),
    change: ({ client, args, flags: { wait, apply_timeout_s, placement, allocator, machine, ...asked }, options }) =>
      client.leases.grant(
        { ...args, claims: claimsOf(asked), placement },
        { ...options, ...whoseOf({ allocator, machine }), wait, timeoutS: apply_timeout_s },
      ),
    ...granted,
  }),
  changeVerb({
    name: 'reserve',
    summary: 'Lease ports that nobody has to keep alive, for a program with a static configuration',
    operations: ['grantLeases'],
    args: ['machine', 'holder'],
    flags: z.strictObject({
      unit: z.string().optional().meta({ description: 'The systemd unit that it is for, and ends with' }),
      ...grantFlags.shape,
    }),
    change: ({ client, args, flags: { wait, apply_timeout_s, placement, unit, ...asked }, options }) => {
      const reservation = { ...args, ...(unit === undefined ? {} : { unit }) };
      return client.leases.grant(
        { reservation, claims: claimsOf(asked), placement },
        { ...options, wait, timeoutS: apply_timeout_s },
      );
    },
    ...granted,
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
      ...whoseFlags,
    }),
    question: ({ args }) => `Release ${args.lease}?`,
    change: async ({ client, args, flags, options }) => {
      const its = { ...options, ...whoseOf(flags) };
      const token = flags.token ?? (await client.leases.get(args.lease, its)).token;
      return client.leases.release({ id: args.lease, token }, its);
    },
  }),
  changeVerb({
    name: 'revoke',
    summary: 'Take a lease from its holder',
    operations: ['revokeLease'],
    args: ['lease'],
    flags: z.strictObject({
      deadline_s: LeaseRevoke.shape.deadline_s.meta({
        description: 'How long it may go on, in seconds; default: not at all, but what is open drains',
      }),
      forced: z.boolean().default(false).meta({ description: 'At once, and cut what is open' }),
      reason: LeaseRevoke.shape.reason.meta({ description: 'Why; the lease shows it' }),
      ...whoseFlags,
    }),
    question: ({ args }) => `Revoke ${args.lease}?`,
    change: ({ client, args, flags: { forced, allocator, machine, ...flags }, options }) =>
      client.leases.revoke(
        args.lease,
        { ...flags, ...(forced ? { forced } : {}) },
        { ...options, ...whoseOf({ allocator, machine }) },
      ),
  }),
];
