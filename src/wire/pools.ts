import { z } from 'zod';
import { isPowerOfTwo } from '../net/ports.ts';
import { hostPrefix } from '../net/prefix.ts';
import { unroutableIn } from '../net/unroutable.ts';
import { ownLabelFilter, pageOf, PageQuery } from './lists.ts';
import { AddressText, Instant, Labels, Name, Ports, PrefixText, Revision } from './primitives.ts';
import { PoolRouters } from './routers.ts';

const powerOfTwo = (max: number) =>
  z
    .int()
    .min(1)
    .max(max)
    .refine(isPowerOfTwo, 'must be a power of two (1, 2, 4 … ), because slices and leases are aligned blocks');

const Cooldown = z
  .strictObject({
    tcp: z.int().min(0).max(86_400).default(120),
    udp: z.int().min(0).max(86_400).default(120),
    icmp: z.int().min(0).max(86_400).default(120),
  })
  .meta({ id: 'Cooldown', description: 'Rest after use, in seconds, during which ports go to no other holder.' });

const carveOutPorts = Ports.nullable().default(null).meta({
  description: 'null: all ports of these addresses.',
});
const NewCarveOut = z
  .strictObject({ prefix: PrefixText.optional(), address: AddressText.optional(), ports: carveOutPorts })
  .refine((it) => (it.prefix === undefined) !== (it.address === undefined), 'either a prefix or an address')
  .transform(({ prefix, address, ports }, context) => {
    if (prefix !== undefined) return { prefix, ports };
    if (address !== undefined) return { prefix: hostPrefix(address), ports };
    context.addIssue({ code: 'custom', message: 'either a prefix or an address' });
    return z.NEVER;
  })
  .meta({
    id: 'NewCarveOut',
    description: 'Addresses, or a range of their ports, that are never part of a slice. Say `address` or `prefix`.',
  });
const CarveOuts = z.array(NewCarveOut).max(256);

const PoolPrefix = PrefixText.superRefine((prefix, context) => {
  const why = unroutableIn(prefix);
  if (why !== undefined) context.addIssue({ code: 'custom', message: `no machine can send from "${prefix}": ${why}` });
}).meta({
  description:
    'A network with its host bits zero, and nothing in it that no machine can send from: "this network", loopback, ' +
    'link-local, multicast, reserved, or IPv4-mapped.',
  examples: ['198.51.100.0/24'],
});
const Prefixes = z.array(PoolPrefix).min(1).max(256);
const SharedBlockPorts = powerOfTwo(65_536).meta({
  description: 'Ports per shared block, when the grant does not say.',
});

export const PoolCreate = z
  .strictObject({
    id: Name,
    labels: Labels.default({}),
    prefixes: Prefixes,
    carve_outs: CarveOuts.default([]),
    slice_ports: powerOfTwo(65_536).default(2_048).meta({ description: 'Ports per slice, a power of two.' }),
    usable_ports: Ports.default({ first: 1_024, last: 65_535 }).meta({
      description: 'Only slices that lie wholly inside this range are handed out.',
    }),
    shared_block_ports: SharedBlockPorts.default(128),
    cooldown_s: Cooldown.default({ tcp: 120, udp: 120, icmp: 120 }),
    routers: PoolRouters.default({ policy: 'none' }),
  })
  .meta({ id: 'PoolCreate' });

export const PoolUpdate = z
  .strictObject({
    labels: Labels.optional(),
    prefixes: Prefixes.optional().meta({ description: 'All of them. One may go when no machine has a slice of it.' }),
    carve_outs: CarveOuts.optional().meta({ description: 'All of them. One may come where no machine has a slice.' }),
    shared_block_ports: SharedBlockPorts.optional(),
    routers: PoolRouters.optional().meta({ description: 'What waits already goes by it, too.' }),
    cooldown_s: Cooldown.optional().meta({ description: 'For rests that begin from now on.' }),
  })
  .meta({ id: 'PoolUpdate', description: 'What is left out stays as it is.' });

export const Pool = z
  .strictObject({
    id: Name,
    labels: Labels,
    prefixes: z.array(z.string()),
    carve_outs: z.array(z.strictObject({ prefix: z.string(), ports: Ports.nullable() }).meta({ id: 'CarveOut' })),
    slice_ports: z.int(),
    usable_ports: Ports,
    shared_block_ports: z.int(),
    cooldown_s: Cooldown,
    routers: PoolRouters,
    slices: z.strictObject({ total: z.string(), assigned: z.int(), cooling: z.int() }).meta({
      description:
        'total is without carve-outs, and decimal text: an IPv6 prefix has more slices than a JSON number holds.',
    }),
    created_at: Instant,
    updated_at: Instant,
    revision: Revision,
  })
  .meta({ id: 'Pool' });

export const PoolPage = pageOf('PoolPage', Pool);
export const PoolListQuery = PageQuery.extend({
  ...ownLabelFilter,
  address: AddressText.optional().meta({ description: 'Only those with a prefix that this address is in.' }),
});

export type PoolCreate = z.infer<typeof PoolCreate>;
export type PoolUpdate = z.infer<typeof PoolUpdate>;
export type Pool = z.infer<typeof Pool>;
export type PoolListQuery = z.input<typeof PoolListQuery>;
