import { z } from 'zod';
import { PageQuery, pageOf } from './lists.ts';
import {
  AddressText,
  FamilyNumber,
  Instant,
  Name,
  Port,
  Ports,
  ProtocolName,
  Revision,
  SliceId,
} from './primitives.ts';

export const sliceStates = ['assigning', 'assigned', 'draining', 'cooling', 'free'] as const;

export const routeStates = ['none', 'adding', 'routed', 'removing'] as const;

export const SliceAssign = z
  .strictObject({
    machine: Name,
    pool: Name,
    count: z.int().min(1).max(1_024).default(1),
    family: FamilyNumber.optional(),
    at: z
      .strictObject({ address: AddressText, first_port: Port })
      .optional()
      .meta({ description: 'This very slice instead of the next free ones; count must then be 1.' }),
  })
  .refine((body) => body.at === undefined || body.count === 1, 'with "at", count must be 1')
  .meta({ id: 'SliceAssign' });

export const Slice = z
  .strictObject({
    id: SliceId,
    pool: Name,
    address: z.string(),
    ports: Ports,
    machine: Name.nullable(),
    state: z.enum(sliceStates),
    generation: z.int().meta({ description: 'Rises each time the slice changes hands.' }),
    allocator: z.enum(['server', 'machine']),
    assigned_at: Instant.nullable(),
    reusable_at: Instant.nullable(),
    route: z.strictObject({ state: z.enum(routeStates), revision: Revision, since: Instant }).meta({
      description:
        'Whether routers know the way to it. adding: not all that its pool names do, and its machine does not know it ' +
        'yet. removing: it was withdrawn, and not all have let go. `revision` is the one that they have to acknowledge.',
    }),
    waiting_for: z
      .strictObject({ routers: z.array(Name), age_s: z.number() })
      .optional()
      .meta({
        description:
          'The routers that have yet to acknowledge, and for how long they have not. Told where slices are read.',
      }),
    revision: Revision,
  })
  .meta({ id: 'Slice' });

export const SliceList = z.strictObject({ slices: z.array(Slice) }).meta({ id: 'SliceList' });

export const SliceListQuery = PageQuery.extend({
  machine: Name.optional(),
  pool: Name.optional(),
  state: z.enum(sliceStates).optional(),
  address: AddressText.optional(),
  route: z.enum(routeStates).optional().meta({ description: '`adding` and `removing` wait for routers.' }),
});
export const SlicePage = pageOf('SlicePage', Slice);

export const extentStates = ['free', 'exclusive', 'shared', 'cooling', 'blocked'] as const;
export const Extent = z
  .strictObject({
    protocol: ProtocolName,
    ports: Ports,
    state: z.enum(extentStates),
    binding: z.enum(['late', 'explicit']).nullable(),
    leases: z.array(z.string()),
    blocked: z
      .strictObject({ since: Instant, reason: z.string() })
      .nullable()
      .meta({ description: 'Who holds it, as the kernel told the agent.' }),
    reusable_at: Instant.nullable(),
  })
  .meta({ id: 'Extent', description: 'A piece of a slice for one protocol. Extents tile the slice.' });
export const ExtentList = z.strictObject({ slice: SliceId, extents: z.array(Extent) }).meta({ id: 'ExtentList' });

export const Unblock = z.strictObject({ protocol: ProtocolName, ports: Ports }).meta({ id: 'Unblock' });

export type SliceAssign = z.infer<typeof SliceAssign>;
export type Slice = z.infer<typeof Slice>;
export type SliceList = z.infer<typeof SliceList>;
export type SliceListQuery = z.infer<typeof SliceListQuery>;
export type Extent = z.infer<typeof Extent>;
export type ExtentList = z.infer<typeof ExtentList>;
export type Unblock = z.infer<typeof Unblock>;
