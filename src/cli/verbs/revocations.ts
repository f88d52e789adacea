import { z } from 'zod';
import { RevocationCreate, RevocationListQuery, type Revocation } from '../../wire/revocations.ts';
import type { Columns } from '../output/table.ts';
import { selectorField } from './fields.ts';
import { changeVerb, filtersOf, listVerb, readVerb } from './verb.ts';

const columns: Columns<Revocation> = {
  revocation: ({ id }) => id,
  machine: ({ machine }) => machine,
  holder: ({ holder }) => holder,
  pools: ({ pools }) => pools,
  prefix: ({ prefix }) => prefix,
  session: ({ session }) => session,
  slice: ({ slice }) => slice,
  lease: ({ lease }) => lease,
  ending: ({ ending }) => ending,
  state: ({ state }) => state,
  'revoke at': ({ revoke_at }) => revoke_at,
  leases: ({ leases_ended }) => leases_ended,
  'left on machines': ({ machine_leases_left }) => machine_leases_left,
  reason: ({ reason }) => reason,
};

const { machine, holder, pool, session, lease, deadline_s, reason } = RevocationCreate.shape;

export const verbs = [
  listVerb({
    name: 'list',
    summary: 'List revocations of many leases',
    operations: ['listRevocations'],
    flags: filtersOf(RevocationListQuery),
    page: ({ client, flags, options }, page) => client.revocations.list({ ...flags, ...page }, options),
    columns,
  }),
  readVerb({
    name: 'get',
    summary: 'Show how far a revocation has come',
    operations: ['getRevocation'],
    args: ['revocation'],
    read: ({ client, args, options }) => client.revocations.get(args.revocation, options),
  }),
  changeVerb({
    name: 'create',
    summary: 'Take many leases from their holders: every one that all of what is given holds of',
    operations: ['revokeLeases'],
    flags: z.strictObject({
      machine: machine.meta({ description: 'On this machine' }),
      holder: holder.meta({ description: 'Of holders with this name' }),
      pool: pool.meta({ description: 'In this pool' }),
      select: selectorField.optional().meta({
        description: 'In pools with labels like that: country=de,product in (a,b)',
      }),
      prefix: z.string().optional().meta({ description: 'On addresses within this prefix' }),
      session: session.meta({ description: 'Of this session' }),
      lease: lease.meta({ description: 'This one lease' }),
      deadline_s: deadline_s.meta({
        description: 'How long they may go on, in seconds; default: not at all, but what is open drains',
      }),
      forced: z.boolean().default(false).meta({ description: 'At once, and cut what is open' }),
      reason: reason.meta({ description: 'Why; the leases show it' }),
    }),
    question: ({ flags: { deadline_s: _, reason: __, forced: cut, ...scope } }) =>
      `Revoke${cut ? ', and cut the connections of,' : ''} every lease with ${Object.entries(scope)
        .flatMap(([key, value]) => (value === undefined ? [] : [`${key} ${value}`]))
        .join(' and ')}?`,
    change: ({ client, flags: { forced, deadline_s: s, ...flags }, options }) =>
      // What contradicts itself is left for the server to say.
      client.revocations.create(
        { ...flags, ...(forced ? { forced, ...(s === undefined ? {} : { deadline_s: s }) } : { deadline_s: s ?? 0 }) },
        options,
      ),
  }),
];
