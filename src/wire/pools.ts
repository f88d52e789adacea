import { z } from 'zod';
import { isPowerOfTwo } from '../net/ports.ts';
import { pageOf } from './lists.ts';
import { Instant, Labels, Name, Ports, PrefixText } from './primitives.ts';

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

export const PoolCreate = z
  .strictObject({
    id: Name,
    labels: Labels.default({}),
    prefixes: z.array(PrefixText).min(1).max(256),
    slice_ports: powerOfTwo(65_536).default(2_048).meta({ description: 'Ports per slice, a power of two.' }),
    usable_ports: Ports.default({ first: 1_024, last: 65_535 }).meta({
      description: 'Only slices that lie wholly inside this range are handed out.',
    }),
    shared_block_ports: powerOfTwo(65_536).default(128).meta({
      description: 'Ports per shared block, when the grant does not say.',
    }),
    cooldown_s: Cooldown.default({ tcp: 120, udp: 120, icmp: 120 }),
  })
  .meta({ id: 'PoolCreate' });

export const Pool = z
  .strictObject({
    id: Name,
    labels: Labels,
    prefixes: z.array(z.string()),
    slice_ports: z.int(),
    usable_ports: Ports,
    shared_block_ports: z.int(),
    cooldown_s: Cooldown,
    slices: z
      .strictObject({ total: z.string(), assigned: z.int(), cooling: z.int() })
      .meta({ description: 'total is decimal text: an IPv6 prefix has more slices than a JSON number holds.' }),
    created_at: Instant,
    updated_at: Instant,
  })
  .meta({ id: 'Pool' });

export const PoolPage = pageOf('PoolPage', Pool);

export type PoolCreate = z.infer<typeof PoolCreate>;
export type Pool = z.infer<typeof Pool>;
