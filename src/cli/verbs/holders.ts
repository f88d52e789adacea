import { z } from 'zod';
import { HolderPut, type Holder, HolderListQuery } from '../../wire/machines.ts';
import type { Columns } from '../output/table.ts';
import { changeVerb, filtersOf, listVerb } from './verb.ts';

const columns: Columns<Holder> = {
  holder: ({ name }) => name,
  machine: ({ machine }) => machine,
  kind: ({ kind }) => kind,
  uid: ({ uid }) => uid,
  updated: ({ updated_at }) => updated_at,
};

export const verbs = [
  listVerb({
    name: 'list',
    summary: 'List who may use ports on a machine',
    operations: ['listHolders'],
    args: ['machine'],
    flags: filtersOf(HolderListQuery),
    page: ({ client, args, flags, options }, page) =>
      client.machines.holders(args.machine, { ...flags, ...page }, options),
    columns,
  }),
  changeVerb({
    name: 'put',
    summary: 'Make a holder known on a machine, or change it',
    operations: ['putHolder'],
    args: ['machine', 'holder'],
    flags: z.strictObject({
      kind: HolderPut.shape.kind.meta({ description: 'What it is' }),
      uid: HolderPut.shape.uid.meta({ description: 'User id of a proxy: the guard lets nobody else use its ports' }),
    }),
    change: ({ client, args, flags, options }) => client.machines.putHolder(args.machine, args.holder, flags, options),
  }),
];
