import { z } from 'zod';
import type { FisheryClient } from '../../sdk/index.ts';
import { PoolCreate, PoolUpdate, type Pool, PoolListQuery } from '../../wire/pools.ts';
import { PrefixText } from '../../wire/primitives.ts';
import type { Columns } from '../output/table.ts';
import {
  carveOutField,
  changedLabels,
  cooldownField,
  labelChanges,
  labelsField,
  portsField,
  routerFlags,
  routersOf,
} from './fields.ts';
import { changeVerb, filtersOf, listVerb, readVerb } from './verb.ts';

const columns: Columns<Pool> = {
  pool: ({ id }) => id,
  prefixes: ({ prefixes }) => prefixes,
  'slice ports': ({ slice_ports }) => slice_ports,
  slices: ({ slices }) => inShort(slices.total),
  assigned: ({ slices }) => slices.assigned,
  cooling: ({ slices }) => slices.cooling,
  labels: ({ labels }) => labels,
};

/** An IPv6 pool has more slices than anybody wants to read the digits of. */
const inShort = (total: string) => (total.length > 9 ? Number(total).toExponential(1) : Number(total));

const Prefixes = z.array(PrefixText);
type ByPool = Readonly<{ client: FisheryClient; args: Readonly<{ pool: string }> }>;
const subject = ({ client, args }: ByPool) => client.pools.get(args.pool);

export const verbs = [
  listVerb({
    name: 'list',
    summary: 'List pools',
    operations: ['listPools'],
    flags: filtersOf(PoolListQuery),
    page: ({ client, flags, options }, page) => client.pools.list({ ...flags, ...page }, options),
    columns,
  }),
  readVerb({
    name: 'get',
    summary: 'Show one pool',
    operations: ['getPool'],
    args: ['pool'],
    read: ({ client, args, options }) => client.pools.get(args.pool, options),
  }),
  changeVerb({
    name: 'create',
    summary: 'Create a pool of address prefixes',
    operations: ['createPool'],
    args: ['pool'],
    flags: z.strictObject({
      prefix: PoolCreate.shape.prefixes.meta({ description: "A network whose addresses are the pool's" }),
      carve_out: z.array(carveOutField).default([]).meta({
        description: 'Never part of a slice: 198.51.100.10, 198.51.100.0/28 or 198.51.100.10@5000-5099',
      }),
      label: labelsField.default({}).meta({ description: 'Label, as KEY=VALUE' }),
      slice_ports: PoolCreate.shape.slice_ports,
      usable_ports: portsField.optional().meta({ description: 'Range that slices lie in; default 1024-65535' }),
      shared_block_ports: PoolCreate.shape.shared_block_ports,
      cooldown_s: cooldownField.optional().meta({ description: 'Rest after use: 120, or tcp=120,udp=60; default 120' }),
      ...routerFlags,
    }),
    change: ({ client, args, flags, options }) => {
      const { prefix, carve_out, label, routers, router, router_select, ...rest } = flags;
      const named = { id: args.pool, prefixes: prefix, carve_outs: carve_out, labels: label };
      return client.pools.create({ ...named, ...rest, ...routersOf({ routers, router, router_select }) }, options);
    },
  }),
  changeVerb({
    name: 'update',
    summary: 'Change a pool: labels, prefixes, carve-outs, cooldowns',
    operations: ['updatePool'],
    args: ['pool'],
    flags: z.strictObject({
      ...labelChanges,
      add_prefix: Prefixes.default([]).meta({ description: 'A network that comes in' }),
      remove_prefix: Prefixes.default([]).meta({
        description: 'A network that goes; no machine may have a slice of it',
      }),
      carve_out: z.array(carveOutField).default([]).meta({
        description: 'Never part of a slice from now on: 198.51.100.10, 198.51.100.0/28 or 198.51.100.10@5000-5099',
      }),
      remove_carve_out: z.array(carveOutField).default([]).meta({ description: 'A carve-out that is no more' }),
      shared_block_ports: PoolUpdate.shape.shared_block_ports,
      cooldown_s: cooldownField.optional().meta({ description: 'Rest after use: 120, or tcp=120,udp=60' }),
      ...routerFlags,
    }),
    subject,
    change: ({ client, flags, options }, pool) =>
      client.pools.update(pool, { ...changeOf(pool, flags), ...routersOf(flags) }, options),
  }),
  changeVerb({
    name: 'delete',
    summary: 'Delete a pool of which nothing is in use',
    operations: ['deletePool'],
    args: ['pool'],
    subject,
    question: (_call, pool) => `Delete pool ${pool.id} (${pool.prefixes.join(', ')})?`,
    change: ({ client, options }, pool) => client.pools.delete(pool, options),
  }),
];

type Flags = Readonly<{
  label: Readonly<Record<string, string>>;
  unlabel: readonly string[];
  add_prefix: readonly string[];
  remove_prefix: readonly string[];
  carve_out: readonly CarveOut[];
  remove_carve_out: readonly CarveOut[];
  shared_block_ports?: number | undefined;
  cooldown_s?: Partial<Pool['cooldown_s']> | undefined;
}>;
type CarveOut = Pool['carve_outs'][number];

/** What is said of a pool is added to, or taken from, what is there. */
function changeOf(pool: Pool, flags: Flags) {
  const { add_prefix, remove_prefix, carve_out, remove_carve_out, shared_block_ports, cooldown_s } = flags;
  const isSame = (a: CarveOut, b: CarveOut) => JSON.stringify(a) === JSON.stringify(b);
  const staying = pool.carve_outs.filter((before) => !remove_carve_out.some((gone) => isSame(before, gone)));
  return {
    labels: changedLabels(pool.labels, flags),
    prefixes: [...pool.prefixes.filter((prefix) => !remove_prefix.includes(prefix)), ...add_prefix],
    carve_outs: [...staying, ...carve_out],
    ...(shared_block_ports === undefined ? {} : { shared_block_ports }),
    ...(cooldown_s === undefined ? {} : { cooldown_s: { ...pool.cooldown_s, ...cooldown_s } }),
  };
}
