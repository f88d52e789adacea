import { z } from 'zod';
import { HolderPut, type Holder, HolderListQuery } from '../../wire/machines.ts';
import type { Columns } from '../output/table.ts';
import { countsField } from './fields.ts';
import { changeVerb, filtersOf, listVerb, readVerb } from './verb.ts';

const columns: Columns<Holder> = {
  holder: ({ name }) => name,
  machine: ({ machine }) => machine,
  kind: ({ kind }) => kind,
  uid: ({ uid }) => uid,
  cgroup: ({ cgroup }) => cgroup,
  'ports min': ({ limits }) => portsIn(limits?.ports_min),
  'ports max': ({ limits }) => portsIn(limits?.ports_max),
  'sessions max': ({ limits }) => limits?.sessions_max,
  updated: ({ updated_at }) => updated_at,
};

/** `tcp=256,udp=64`. */
const portsIn = (ports: Readonly<Record<string, number | undefined>> = {}): string =>
  Object.entries(ports)
    .map(([protocol, count]) => `${protocol}=${count}`)
    .join(',');

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
  readVerb({
    name: 'get',
    summary: 'Show one holder of a machine',
    operations: ['getHolder'],
    args: ['machine', 'holder'],
    read: ({ client, args, options }) => client.machines.holder(args.machine, args.holder, options),
  }),
  changeVerb({
    name: 'put',
    summary: 'Make a holder known on a machine, or change it',
    operations: ['putHolder'],
    args: ['machine', 'holder'],
    flags: z.strictObject({
      kind: HolderPut.shape.kind.meta({ description: 'What it is' }),
      uid: HolderPut.shape.uid.meta({ description: 'User id of a proxy: the guard lets nobody else use its ports' }),
      cgroup: HolderPut.shape.cgroup.meta({
        description: 'In place of a user id: its control group, such as system.slice/haproxy.service',
      }),
      ports_min: countsField.optional().meta({ description: 'Ports kept for it: tcp=256, or tcp=256,udp=64' }),
      ports_max: countsField.optional().meta({ description: 'Ports it may have: tcp=4096, or tcp=4096,udp=64' }),
      sessions_max: z.int().min(0).optional().meta({ description: 'Live sessions that it may have' }),
      unlimited: z.boolean().default(false).meta({ description: 'No limits but those that are given' }),
      if_revision: z.int().min(0).optional().meta({ description: 'Only if it is still as it was at this revision' }),
    }),
    details:
      'What is not given stays as it is; of --uid and --cgroup, one takes the place of the other. Limits are set together: when one of them is given, those that are not are none.',
    change: ({ client, args, flags, options }) => {
      const { kind, uid, cgroup, unlimited, if_revision: ifRevision, ...limits } = flags;
      const isLimited = Object.values(limits).some((limit) => limit !== undefined);
      const body = {
        kind,
        ...(uid === undefined ? {} : { uid }),
        ...(cgroup === undefined ? {} : { cgroup }),
        ...(isLimited ? { limits } : unlimited ? { limits: null } : {}),
      };
      return client.machines.putHolder(args.machine, args.holder, body, {
        ...options,
        ...(ifRevision === undefined ? {} : { ifRevision }),
      });
    },
  }),
  changeVerb({
    name: 'delete',
    summary: 'Delete a holder that nothing lives of',
    operations: ['deleteHolder'],
    args: ['machine', 'holder'],
    subject: ({ client, args }) => client.machines.holder(args.machine, args.holder),
    question: (_call, { name, machine }) => `Delete holder ${name} of machine ${machine}, with its tokens?`,
    change: ({ client, options }, holder) => client.machines.deleteHolder(holder, options),
  }),
];
