import { z } from 'zod';
import { formatPorts } from '../../net/ports.ts';
import type { FisheryClient } from '../../sdk/index.ts';
import {
  AllocatorChange,
  AllocatorChoice,
  SliceAssign,
  SliceDrain,
  SliceListQuery,
  Unblock,
  type Extent,
  type Slice,
} from '../../wire/slices.ts';
import { tableOf, type Columns } from '../output/table.ts';
import { placeField, portsField } from './fields.ts';
import { changeVerb, filtersOf, listVerb, readVerb } from './verb.ts';

const columns: Columns<Slice> = {
  slice: ({ id }) => id,
  pool: ({ pool }) => pool,
  address: ({ address }) => address,
  ports: ({ ports }) => ports,
  machine: ({ machine }) => machine,
  state: ({ state }) => state,
  generation: ({ generation }) => generation,
  allocator: ({ allocator }) => allocator,
  reusable: ({ reusable_at }) => reusable_at,
  'waits for': ({ waiting_for: on }) => on && `${on.routers.join(', ')} (${Math.round(on.age_s)} s)`,
};

const extentColumns: Columns<Extent> = {
  protocol: ({ protocol }) => protocol,
  ports: ({ ports }) => ports,
  state: ({ state, binding }) => (binding === null ? state : `${state} (${binding})`),
  leases: ({ leases }) => leases,
  reusable: ({ reusable_at }) => reusable_at,
  blocked: ({ blocked }) => blocked && `since ${blocked.since}: ${blocked.reason}`,
};

type BySlice = Readonly<{ client: FisheryClient; args: Readonly<{ slice: string }> }>;
const subject = ({ client, args }: BySlice) => client.slices.get(args.slice);
const inShort = ({ id, address, ports, machine }: Slice) =>
  `${id} (${address}:${formatPorts(ports)}) of ${machine ?? 'no machine'}`;

/** How the leases of a slice end that leaves its machine. */
const leaving = z.strictObject({
  deadline_s: SliceDrain.shape.deadline_s.meta({ description: 'How long its leases may go on, in seconds' }),
  force: SliceDrain.shape.force.meta({ description: 'End its leases at once' }),
});

const allocatorFlag = AllocatorChoice.meta({ description: 'Who grants inside it: the server, or the machine itself' });

export const verbs = [
  listVerb({
    name: 'list',
    summary: 'List slices',
    operations: ['listSlices'],
    flags: filtersOf(SliceListQuery),
    page: ({ client, flags, options }, page) => client.slices.list({ ...flags, ...page }, options),
    columns,
  }),
  readVerb({
    name: 'get',
    summary: 'Show one slice',
    operations: ['getSlice'],
    args: ['slice'],
    read: ({ client, args, options }) => client.slices.get(args.slice, options),
  }),
  readVerb({
    name: 'extents',
    summary: 'See who has which ports of a slice',
    operations: ['listExtents'],
    args: ['slice'],
    read: ({ client, args, options }) => client.slices.extents(args.slice, options),
    inWords: ({ extents }) => tableOf(extentColumns, extents),
  }),
  changeVerb({
    name: 'assign',
    summary: 'Assign slices of a pool to a machine',
    operations: ['assignSlices'],
    args: ['pool', 'machine'],
    flags: z.strictObject({
      count: SliceAssign.shape.count.meta({ description: 'How many' }),
      family: SliceAssign.shape.family.meta({ description: 'IP version' }),
      allocator: allocatorFlag,
      at: placeField.optional().meta({ description: 'This very slice, by ADDRESS:FIRST_PORT' }),
    }),
    change: ({ client, args, flags, options }) => client.slices.assign({ ...args, ...flags }, options),
    inWords: ({ slices }) => tableOf(columns, slices),
  }),
  changeVerb({
    name: 'drain',
    summary: 'Take a slice back from its machine',
    operations: ['drainSlice'],
    args: ['slice'],
    flags: leaving,
    subject,
    question: (_call, slice) => `Drain ${inShort(slice)}?`,
    change: ({ client, flags, options }, slice) => client.slices.drain(slice, flags, options),
  }),
  changeVerb({
    name: 'move',
    summary: 'Give a slice to another machine, by way of a drain and a rest',
    operations: ['moveSlice'],
    args: ['slice', 'machine'],
    flags: z.strictObject({ ...leaving.shape, allocator: allocatorFlag }),
    subject,
    question: ({ args }, slice) => `Move ${inShort(slice)} to ${args.machine}?`,
    change: ({ client, args, flags, options }, slice) =>
      client.slices.move(slice, { machine: args.machine, ...flags }, options),
  }),
  changeVerb({
    name: 'reclaim',
    summary: 'Take a slice from a machine that is fenced or lost',
    operations: ['reclaimSlice'],
    args: ['slice'],
    subject,
    question: (_call, slice) => `Reclaim ${inShort(slice)}?`,
    change: ({ client, options }, slice) => client.slices.reclaim(slice, options),
  }),
  changeVerb({
    name: 'allocator',
    summary: 'Say who grants inside a slice, by way of a drain and a rest',
    operations: ['setAllocator'],
    args: ['slice'],
    flags: z.strictObject({
      ...leaving.shape,
      to: AllocatorChange.shape.allocator.meta({ description: 'Who grants from then on' }),
    }),
    subject,
    question: ({ flags }, slice) => `Hand ${inShort(slice)} to the ${flags.to}?`,
    change: ({ client, flags: { to, ...flags }, options }, slice) =>
      client.slices.setAllocator(slice, { allocator: to, ...flags }, options),
  }),
  changeVerb({
    name: 'unblock',
    summary: 'State that the stranger on a blocked extent is gone',
    operations: ['unblockExtent'],
    args: ['slice'],
    flags: z.strictObject({
      protocol: Unblock.shape.protocol.meta({ description: 'Of the blocked extent' }),
      ports: portsField.meta({ description: 'The very ones of the blocked extent' }),
    }),
    subject,
    change: ({ client, flags, options }, slice) => client.slices.unblock(slice, flags, options),
  }),
];
