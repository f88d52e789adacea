import { z } from 'zod';
import { formatPorts } from '../../net/ports.ts';
import type { FisheryClient } from '../../sdk/index.ts';
import { SliceAssign, SliceListQuery, Unblock, type Extent, type Slice } from '../../wire/slices.ts';
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
    subject,
    question: (_call, slice) => `Drain ${inShort(slice)}?`,
    change: ({ client, options }, slice) => client.slices.drain(slice, options),
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
