import { z } from 'zod';
import { labelFilters, pageOf, PageQuery } from './lists.ts';
import {
  AddressText,
  AllocatorName,
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

/** Of a slice that a machine gets. */
export const AllocatorChoice = AllocatorName.default('server').meta({
  description:
    'Who is to grant inside the slice: the server, or the machine itself, for the broker on the host to grant from. ' +
    'A machine without an agent has nobody who could.',
});
const deadline = z.int().min(0).max(604_800).optional().meta({
  description:
    'How long its leases may go on, in seconds. Without it, and without force, until they end by themselves.',
});
const force = z.boolean().default(false).meta({ description: 'End its leases at once.' });

const eitherOr = (body: Readonly<{ deadline_s?: number | undefined; force: boolean }>): boolean =>
  !(body.force && body.deadline_s !== undefined);
const eitherOrText = 'either deadline_s or force';

export const SliceDrain = z
  .strictObject({ deadline_s: deadline, force })
  .refine(eitherOr, eitherOrText)
  .meta({ id: 'SliceDrain' });
export const SliceMove = z
  .strictObject({ machine: Name, allocator: AllocatorChoice, deadline_s: deadline, force })
  .refine(eitherOr, eitherOrText)
  .meta({ id: 'SliceMove' });
export const AllocatorChange = z
  .strictObject({ allocator: AllocatorName, deadline_s: deadline, force })
  .refine(eitherOr, eitherOrText)
  .meta({ id: 'AllocatorChange' });

export const SliceAssign = z
  .strictObject({
    machine: Name,
    pool: Name,
    count: z.int().min(1).max(1_024).default(1),
    family: FamilyNumber.optional(),
    allocator: AllocatorChoice,
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
    allocator: AllocatorName,
    draining_since: Instant.nullable().meta({ description: 'Since when it drains, as long as it does.' }),
    drain_by: Instant.nullable().meta({ description: 'When the leases of a draining slice are ended, if ever.' }),
    next: z
      .strictObject({ machine: Name, allocator: AllocatorName })
      .nullable()
      .meta({ description: 'Who has it after its rest; null: the pool.' }),
    reclaimed: z.boolean().meta({ description: 'Its machine is out of reach, and nothing of it is waited for.' }),
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
  allocator: AllocatorName.optional().meta({ description: 'Only those in which this one grants.' }),
  ...labelFilters,
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
    blocked: z.strictObject({ since: Instant, reason: z.string() }).nullable().meta({
      description:
        'Which stranger was met on it, as the kernel told the agent. A shared extent may have one: nobody else joins it then.',
    }),
    reusable_at: Instant.nullable(),
  })
  .meta({ id: 'Extent', description: 'A piece of a slice for one protocol. Extents tile the slice.' });
export const ExtentList = z.strictObject({ slice: SliceId, extents: z.array(Extent) }).meta({ id: 'ExtentList' });

export const Unblock = z.strictObject({ protocol: ProtocolName, ports: Ports }).meta({ id: 'Unblock' });

export type SliceAssign = z.infer<typeof SliceAssign>;
export type SliceDrain = z.infer<typeof SliceDrain>;
export type SliceMove = z.infer<typeof SliceMove>;
export type AllocatorChange = z.infer<typeof AllocatorChange>;
export type Slice = z.infer<typeof Slice>;
export type SliceList = z.infer<typeof SliceList>;
export type SliceListQuery = z.infer<typeof SliceListQuery>;
export type Extent = z.infer<typeof Extent>;
export type ExtentList = z.infer<typeof ExtentList>;
export type Unblock = z.infer<typeof Unblock>;
