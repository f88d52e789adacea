import { z } from 'zod';
import { familyOf } from '../net/address.ts';
import { cgroup_chars_max, cgroup_depth_max, cgroupPattern } from '../net/cgroup.ts';
import { protocols } from '../net/protocol.ts';
import { Broker } from './broker.ts';
import { ownLabelFilter, pageOf, PageQuery } from './lists.ts';
import {
  AddressText,
  AllocatorName,
  FamilyNumber,
  Instant,
  Labels,
  Name,
  Revision,
  SelectorText,
} from './primitives.ts';

/** What an operator says that a machine is to be; `fenced` it becomes by itself. */
export const machineIntents = ['active', 'cordoned', 'draining', 'lost'] as const;
export const machineStates = ['active', 'cordoned', 'draining', 'fenced', 'lost'] as const;

const Mark = z
  .int()
  .min(1)
  .max(4_294_967_295)
  .nullable()
  .meta({ description: 'The packet mark that routers give to what comes back for this machine.' });
const NextHops = z
  .array(AddressText)
  .max(2)
  .refine((hops) => new Set(hops.map(familyOf)).size === hops.length, 'at most one address of each family')
  .meta({ description: 'Where routers send what comes back for this machine: at most one address of each family.' });

const want = {
  pool: Name.optional(),
  family: FamilyNumber.optional(),
  slices: z.int().min(1).max(1_024).meta({ description: 'How many it is to have, at least.' }),
};
const grantsInThem = 'Who grants in these slices; those in which another does are not counted.';
const MachineWant = z
  .strictObject({
    ...want,
    allocator: AllocatorName.default('server').meta({ description: grantsInThem }),
    select: SelectorText.optional().meta({ description: 'Of pools whose labels match.' }),
  })
  .refine((it) => (it.pool === undefined) !== (it.select === undefined), 'either a pool or a selector of pools')
  .meta({ id: 'MachineWant', description: 'Slices that a machine gets by itself, and again for those that drain.' });
const Wants = z.array(MachineWant).max(16);

export const MachineCreate = z
  .strictObject({
    id: Name,
    labels: Labels.default({}),
    enforcement: z.enum(['agent', 'none']).default('agent').meta({
      description: 'none: no agent on the host; the table alone is wanted and leases are active at once.',
    }),
    fence_s: z.int().min(2).max(3_600).default(30).meta({
      description: 'How long after the last answered keepalive the kernel guard on the host shuts by itself.',
    }),
    mark: Mark.default(null),
    next_hops: NextHops.default([]),
    wants: Wants.default([]),
  })
  .meta({ id: 'MachineCreate' });

export const MachineUpdate = z
  .strictObject({
    state: z
      .enum(machineIntents)
      .optional()
      .meta({
        description:
          'cordoned: leases stay, nothing new is granted. draining: all its slices drain. lost: it cannot send any more, ' +
          'which an operator states; its keepalives are refused, and all its slices are reclaimed once its guard has shut for certain.',
      }),
    drain_deadline_s: z
      .int()
      .min(0)
      .max(604_800)
      .optional()
      .meta({
        description:
          'How long the leases of a machine that is draining may go on, in seconds; without it until they end by themselves. ' +
          'Of several deadlines the earliest counts.',
      }),
    labels: Labels.optional(),
    mark: Mark.optional(),
    next_hops: NextHops.optional(),
    wants: Wants.optional().meta({ description: 'All of them. What it has too much is not taken away.' }),
  })
  .refine(
    (body) => body.drain_deadline_s === undefined || body.state === 'draining',
    'drain_deadline_s goes with the state draining',
  )
  .meta({ id: 'MachineUpdate', description: 'What is left out stays as it is.' });

export const Machine = z
  .strictObject({
    id: Name,
    labels: Labels,
    enforcement: z.enum(['agent', 'none']),
    state: z.enum(machineStates).meta({
      description:
        'fenced: its agent fell silent for longer than its fence, and the guard on the host has shut by itself.',
    }),
    intent: z.enum(machineIntents).meta({
      description: 'What an operator said last that it is to be; what a fenced one is again when its agent is back.',
    }),
    drain_by: Instant.nullable().meta({ description: 'When the leases of a draining machine are ended, if ever.' }),
    fence_s: z.int(),
    mark: z.int().nullable(),
    next_hops: z.array(z.string()),
    wants: z.array(
      z
        .strictObject({
          ...want,
          allocator: AllocatorName.meta({ description: grantsInThem }),
          select: z.string().optional(),
          missing: z.int().meta({ description: 'How many of these slices it lacked when that was last looked at.' }),
        })
        .meta({ id: 'MachineWanted' }),
    ),
    agent: z
      .strictObject({ boot_id: z.string(), version: z.string(), seen_at: Instant, applied_revision: Revision })
      .nullable()
      .meta({ description: 'What the agent said last; null before its first keepalive.' }),
    broker: Broker.optional().meta({ description: 'Told where one machine is read, and it has a broker.' }),
    created_at: Instant,
    updated_at: Instant,
    revision: Revision,
  })
  .meta({ id: 'Machine' });

const PortCount = z.int().min(0).max(1_073_741_824).optional();
const PortsByProtocol = z.strictObject({ tcp: PortCount, udp: PortCount, icmp: PortCount });

const HolderLimits = z
  .strictObject({
    ports_min: PortsByProtocol.default({}).meta({
      description:
        'So many ports are kept for it: leases of other holders of the machine leave them free. Where more is promised than ' +
        'the machine has, it is first come, first served, up to the `ports_min` of each; what a holder asks for beyond its ' +
        'own must leave free what is kept for the others.',
    }),
    ports_max: PortsByProtocol.default({}).meta({
      description:
        'So many ports it may have, of all its leases together; absent: as many as there are. A lease counts until its ' +
        'ports are proven unused; a shared one with all ports of its block.',
    }),
    sessions_max: z.int().min(0).max(1_000_000).optional().meta({ description: 'So many live sessions.' }),
  })
  .refine(
    ({ ports_min: min, ports_max: max }) => protocols.every((name) => (min[name] ?? 0) <= (max[name] ?? Infinity)),
    { path: ['ports_min'], message: 'is more than ports_max' },
  );

const Cgroup = z
  .string()
  .max(cgroup_chars_max)
  .regex(
    cgroupPattern,
    `must be a path below the cgroup2 mount without a leading slash, such as system.slice/haproxy.service, of at most ${cgroup_depth_max} names`,
  );

export const holderKinds = ['fish', 'terminator', 'proxy'] as const;

export const HolderPut = z
  .strictObject({
    kind: z.enum(holderKinds),
    uid: z
      .int()
      .min(0)
      .max(4_294_967_294)
      .nullable()
      .optional()
      .meta({
        description:
          "The user id that the proxy's sockets have: the egress guard on the host lets nobody else use its ports. " +
          'Not 0 (root), and no two holders of a machine have the same. Left out: as it is, or none where `cgroup` is ' +
          'given; null: none.',
      }),
    cgroup: Cgroup.nullable()
      .optional()
      .meta({
        description:
          'In place of `uid`: the control group in which the proxy opens its sockets, or one above it, by its path below the ' +
          'cgroup2 mount. No two holders of a machine have the same, nor one below that of the other. Left out: as it is, ' +
          'or none where `uid` is given; null: none.',
      }),
    limits: HolderLimits.nullable().optional().meta({
      description: 'Set as a whole: what is absent in it is not limited. Left out altogether: as they are; null: none.',
    }),
  })
  .refine(
    ({ kind, uid = null, cgroup = null }) => kind !== 'fish' || (uid === null && cgroup === null),
    'a fish has no uid and no cgroup: its packets come from the TUN device',
  )
  .refine(
    ({ kind, uid, cgroup = null }) => kind !== 'terminator' || (cgroup === null && uid !== null),
    'a terminator is known by its uid: its process becomes that user',
  )
  .refine(
    ({ uid = null, cgroup = null }) => uid === null || cgroup === null,
    'the guard knows a proxy by its uid or by its cgroup: give one of them',
  )
  .meta({ id: 'HolderPut' });

export const Holder = z
  .strictObject({
    machine: Name,
    name: Name,
    kind: z.enum(holderKinds),
    uid: z.int().nullable(),
    cgroup: z.string().nullable(),
    limits: HolderLimits.nullable().meta({ description: 'null: none.' }),
    created_at: Instant,
    updated_at: Instant,
    revision: Revision,
  })
  .meta({ id: 'Holder' });

export const MachinePage = pageOf('MachinePage', Machine);
export const MachineListQuery = PageQuery.extend({
  ...ownLabelFilter,
  state: z.enum(machineStates).optional(),
  enforcement: z.enum(['agent', 'none']).optional().meta({ description: 'Only those that are made true like this.' }),
});
export const HolderListQuery = PageQuery.extend({
  kind: z.enum(holderKinds).optional().meta({ description: 'Only those of this kind.' }),
});
export const HolderPage = pageOf('HolderPage', Holder);

export type MachineCreate = z.infer<typeof MachineCreate>;
export type MachineUpdate = z.infer<typeof MachineUpdate>;
export type Machine = z.infer<typeof Machine>;
export type HolderLimits = z.infer<typeof HolderLimits>;
export type HolderPut = z.infer<typeof HolderPut>;
export type Holder = z.infer<typeof Holder>;
export type MachineListQuery = z.input<typeof MachineListQuery>;
export type HolderListQuery = z.input<typeof HolderListQuery>;
