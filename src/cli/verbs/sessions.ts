import { z } from 'zod';
import { SessionListQuery, SessionOpen, type Session } from '../../wire/sessions.ts';
import type { Columns } from '../output/table.ts';
import { changeVerb, filtersOf, listVerb, readVerb, whoseFlags, whoseOf } from './verb.ts';

const columns: Columns<Session> = {
  session: ({ id }) => id,
  machine: ({ machine }) => machine,
  holder: ({ holder }) => holder,
  state: ({ state, ending }) => (ending === null ? state : `${state} (${ending})`),
  allocator: ({ allocator }) => allocator ?? 'server',
  'ttl s': ({ ttl_s }) => ttl_s,
  opened: ({ opened_at }) => opened_at,
  expires: ({ state, expires_at }) => (state === 'live' ? expires_at : null),
};

export const verbs = [
  listVerb({
    name: 'list',
    summary: 'List sessions',
    operations: ['listSessions'],
    flags: filtersOf(SessionListQuery),
    page: ({ client, flags, options }, page) => client.sessions.list({ ...flags, ...page }, options),
    columns,
  }),
  readVerb({
    name: 'get',
    summary: 'Show one session',
    operations: ['getSession'],
    args: ['session'],
    flags: z.strictObject(whoseFlags),
    read: ({ client, args, flags, options }) => client.sessions.get(args.session, { ...options, ...whoseOf(flags) }),
  }),
  changeVerb({
    name: 'open',
    summary: 'Open a session; `fishery hold` does so for a program, and keeps it alive',
    operations: ['openSession'],
    args: ['machine', 'holder'],
    flags: z.strictObject({
      ttl_s: SessionOpen.shape.ttl_s.meta({ description: 'Time to live, in seconds' }),
      allocator: whoseFlags.allocator,
    }),
    change: ({ client, args, flags, options }) => client.sessions.open({ ...args, ...flags }, options),
  }),
  changeVerb({
    name: 'keepalive',
    summary: 'Keep a session alive for another time to live',
    operations: ['keepSession'],
    args: ['session'],
    flags: z.strictObject(whoseFlags),
    change: ({ client, args, flags, options }) =>
      client.sessions.keepalive(args.session, { ...options, ...whoseOf(flags) }),
  }),
  changeVerb({
    name: 'end',
    summary: 'End a session, and all its leases with it',
    operations: ['endSession'],
    args: ['session'],
    flags: z.strictObject(whoseFlags),
    question: ({ args }) => `End ${args.session}, with all its leases?`,
    change: ({ client, args, flags, options }) => client.sessions.end(args.session, { ...options, ...whoseOf(flags) }),
  }),
];
