import { z } from 'zod';
import type { FisheryClient } from '../../sdk/index.ts';
import { MachineCreate, MachineListQuery, MachineUpdate, type Machine } from '../../wire/machines.ts';
import { AddressText } from '../../wire/primitives.ts';
import type { Columns } from '../output/table.ts';
import { changedLabels, labelChanges, labelsField, wantField } from './fields.ts';
import { changeVerb, filtersOf, listVerb, readVerb } from './verb.ts';

const wayFlags = {
  mark: z.int().min(1).max(4_294_967_295).optional().meta({ description: 'Packet mark that routers know it by' }),
  next_hop: z.array(AddressText).default([]).meta({ description: 'Where routers reach it; one per address family' }),
};

const wants = z
  .array(wantField)
  .default([])
  .meta({
    description:
      'Slices it gets by itself: POOL=2, POOL/4=2 (IPv4), {site=fra1}=2 (pools with such labels); with @machine behind, ' +
      'to grant in itself',
  });

const columns: Columns<Machine> = {
  machine: ({ id }) => id,
  state: ({ state, intent }) => (state === 'fenced' && intent !== 'active' ? `${state} (${intent})` : state),
  enforcement: ({ enforcement }) => enforcement,
  'agent seen': ({ agent }) => agent?.seen_at,
  applied: ({ agent }) => agent?.applied_revision,
  version: ({ agent }) => agent?.version,
  lacks: ({ wants: wanted }) => {
    const missing = wanted.reduce((sum, want) => sum + want.missing, 0);
    return missing === 0 ? undefined : `${missing} slices`;
  },
  labels: ({ labels }) => labels,
};

type ByMachine = Readonly<{ client: FisheryClient; args: Readonly<{ machine: string }> }>;
const subject = ({ client, args }: ByMachine) => client.machines.get(args.machine);

export const verbs = [
  listVerb({
    name: 'list',
    summary: 'List machines',
    operations: ['listMachines'],
    flags: filtersOf(MachineListQuery),
    page: ({ client, flags, options }, page) => client.machines.list({ ...flags, ...page }, options),
    columns,
  }),
  readVerb({
    name: 'get',
    summary: 'Show one machine, with what its agent said last',
    operations: ['getMachine'],
    args: ['machine'],
    read: ({ client, args, options }) => client.machines.get(args.machine, options),
  }),
  readVerb({
    name: 'desired',
    summary: 'Show all that the agent of a machine must make true',
    operations: ['getDesired'],
    args: ['machine'],
    read: ({ client, args, options }) => client.agent.desired(args.machine, options),
  }),
  changeVerb({
    name: 'create',
    summary: 'Make a machine known',
    operations: ['createMachine'],
    args: ['machine'],
    flags: z.strictObject({
      label: labelsField.default({}).meta({ description: 'Label, as KEY=VALUE' }),
      enforcement: MachineCreate.shape.enforcement,
      fence_s: MachineCreate.shape.fence_s,
      want: wants,
      ...wayFlags,
    }),
    change: ({ client, args, flags: { label, next_hop, want, ...flags }, options }) =>
      client.machines.create({ id: args.machine, labels: label, next_hops: next_hop, wants: want, ...flags }, options),
  }),
  changeVerb({
    name: 'update',
    summary: 'Change the labels of a machine, what it wants, and how routers reach it',
    operations: ['updateMachine'],
    args: ['machine'],
    flags: z.strictObject({
      ...labelChanges,
      want: wants,
      want_nothing: z.boolean().default(false).meta({ description: 'It gets no more slices by itself' }),
      ...wayFlags,
    }),
    subject,
    change: ({ client, flags: { mark, next_hop, want, want_nothing, ...flags }, options }, machine) => {
      const way = {
        ...(mark === undefined ? {} : { mark }),
        ...(next_hop.length === 0 ? {} : { next_hops: next_hop }),
        ...(want.length === 0 && !want_nothing ? {} : { wants: want_nothing ? [] : want }),
      };
      return client.machines.update(machine, { labels: changedLabels(machine.labels, flags), ...way }, options);
    },
  }),
  changeVerb({
    name: 'cordon',
    summary: 'Grant nothing new on a machine; its leases stay',
    operations: ['updateMachine'],
    args: ['machine'],
    subject,
    change: ({ client, options }, machine) => client.machines.update(machine, { state: 'cordoned' }, options),
  }),
  changeVerb({
    name: 'uncordon',
    summary: 'Grant on a machine again',
    operations: ['updateMachine'],
    args: ['machine'],
    subject,
    change: ({ client, options }, machine) => client.machines.update(machine, { state: 'active' }, options),
  }),
  changeVerb({
    name: 'drain',
    summary: 'Take all slices back from a machine',
    operations: ['updateMachine'],
    args: ['machine'],
    flags: z.strictObject({
      deadline_s: MachineUpdate.shape.drain_deadline_s.meta({
        description: 'How long its leases may go on, in seconds',
      }),
    }),
    subject,
    question: (_call, machine) => `Drain machine ${machine.id}?`,
    change: ({ client, flags: { deadline_s }, options }, machine) =>
      client.machines.update(machine, { state: 'draining', drain_deadline_s: deadline_s }, options),
  }),
  changeVerb({
    name: 'lost',
    summary: 'State that a machine cannot send any more: all its slices are reclaimed',
    operations: ['updateMachine'],
    args: ['machine'],
    subject,
    question: (_call, machine) => `Give up machine ${machine.id}, which is ${machine.state}, and reclaim its slices?`,
    change: ({ client, options }, machine) => client.machines.update(machine, { state: 'lost' }, options),
  }),
  changeVerb({
    name: 'delete',
    summary: 'Delete a machine that nothing lives on',
    operations: ['deleteMachine'],
    args: ['machine'],
    subject,
    question: (_call, machine) => `Delete machine ${machine.id}, with its holders and its tokens?`,
    change: ({ client, options }, machine) => client.machines.delete(machine, options),
  }),
];
