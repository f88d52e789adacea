import { z } from 'zod';
import { Epoch } from './epochs.ts';
import { PageQuery, queryNumber } from './lists.ts';
import { Holder, Machine, machineStates } from './machines.ts';
import { Lease } from './leases.ts';
import {
  AddressText,
  Instant,
  LeaseId,
  LeaseToken,
  Name,
  Port,
  Ports,
  ProtocolName,
  Revision,
  SliceId,
  Text,
  type SessionId,
} from './primitives.ts';
import { Pool } from './pools.ts';
import { Revocation } from './revocations.ts';
import { Session } from './sessions.ts';
import { Router } from './routers.ts';
import { Slice } from './slices.ts';
import { TokenInfo } from './tokens.ts';

/**
 * What passes between the server and the agent of one machine. The agent takes a snapshot (`Desired`), then follows
 * changes (`WatchEvent`) from its revision, and says what it made true (`Applied`).
 */

export const DesiredPool = Pool.pick({
  id: true,
  labels: true,
  prefixes: true,
  carve_outs: true,
  slice_ports: true,
  usable_ports: true,
  shared_block_ports: true,
  cooldown_s: true,
}).meta({
  id: 'DesiredPool',
  description:
    'Every prefix of a pool is guarded, also where this machine owns no slice of it. The other terms are for slices that ' +
    'the machine grants in itself.',
});

/** Ports that are kept out of grants because a stranger was met on them. */
export const BlockedPorts = z
  .strictObject({ slice: SliceId, generation: z.int().min(1), protocol: ProtocolName, ports: Ports })
  .meta({ id: 'BlockedPorts' });

export const Desired = z
  .strictObject({
    epoch: z.string(),
    revision: Revision,
    machine: Name,
    state: z.enum(machineStates),
    fence_s: z.int(),
    pools: z.array(DesiredPool),
    slices: z.array(Slice).meta({ description: 'assigning, assigned and draining ones.' }),
    holders: z.array(Holder),
    leases: z.array(Lease).meta({ description: 'pending, active and ending ones.' }),
    blocked: z.array(BlockedPorts).meta({ description: 'To be looked at again; see `clear` of a report.' }),
    revocations: z.array(Revocation).meta({
      description:
        'Of a machine that grants itself: the newest that are about more than a slice, in order. What its broker granted ' +
        'before it heard of one, that one ends too.',
    }),
  })
  .meta({ id: 'Desired' });

const entry = <K extends string, S extends z.ZodRawShape>(kind: K, shape: S) =>
  z.strictObject({ kind: z.literal(kind), revision: Revision, at: Instant, ...shape });

/** What a machine's watchers and readers of the whole log see alike. */
const commonEntries = [
  entry('deleted', {
    what: z.enum(['pool', 'machine', 'router', 'holder']),
    id: Name,
    machine: Name.optional().meta({ description: 'Of a holder: where it was.' }),
  }).meta({ description: 'It is gone, and whatever is known of it.' }),
  entry('holder', { holder: Holder }),
  entry('slice', { slice: Slice }),
  entry('session', { session: Session }),
  entry('lease', { lease: Lease }),
  entry('revocation', { revocation: Revocation }),
] as const;

/**
 * One entry of the log as a machine's watcher sees it. The SSE id is the revision; each carries the whole new state of one
 * thing, of pools and of the machine itself as much as its agent needs.
 */
export const Change = z
  .discriminatedUnion('kind', [
    entry('pool', { pool: DesiredPool }),
    entry('machine', { machine: Name, fence_s: z.int(), state: z.string() }),
    ...commonEntries,
  ])
  .meta({
    id: 'Change',
    description:
      'An ended session, and a revocation once it is `ending`, end all their leases: no event for each follows before the ' +
      'agent reports them empty. A revocation ends the leases with a lower number than its own that it covers.',
  });

export const WatchQuery = z.strictObject({
  from: queryNumber(Revision).optional().meta({
    description: 'Changes after this revision; `revision` of the snapshot. The header Last-Event-ID wins over it.',
  }),
});

/** A pool as it was then; how many of its slices were with machines, other entries tell. */
export const PoolTerms = Pool.omit({ slices: true }).meta({ id: 'PoolTerms' });

/** One entry of the whole log: the whole new state of one thing. */
export const LogEntry = z
  .discriminatedUnion('kind', [
    entry('pool', { pool: PoolTerms }),
    entry('machine', { machine: Machine }),
    ...commonEntries,
    entry('token', { token: TokenInfo }),
    entry('router', { router: Router }),
    entry('epoch', { epoch: Epoch }),
  ])
  .meta({ id: 'LogEntry' });

/** What an entry of the whole log can be about. */
export const logKinds = LogEntry.options.map(({ shape }) => shape.kind.value);
const isLogKind = (text: string): text is LogEntry['kind'] => logKinds.some((kind) => kind === text);

const LogKinds = z
  .string()
  .max(200)
  .transform((text, context) => {
    const kinds = text.split(',');
    if (kinds.every(isLogKind)) return new Set(kinds);
    context.addIssue({ code: 'custom', message: `must be kinds, separated by commas: ${logKinds.join(', ')}` });
    return z.NEVER;
  })
  .meta({
    description: `Only changes of these kinds, separated by commas: ${logKinds.join(', ')}.`,
    examples: ['lease,revocation'],
  });

const logFilter = {
  machine: Name.optional().meta({ description: 'Only what concerns this machine.' }),
  kind: LogKinds.optional(),
};
export const EventsQuery = z.strictObject({
  after: queryNumber(Revision).default(0).meta({ description: 'Changes after this revision.' }),
  limit: PageQuery.shape.limit,
  ...logFilter,
});
export const EventsWatchQuery = z.strictObject({
  after: queryNumber(Revision).optional().meta({
    description: 'Changes after this revision; without it, from now on. The header Last-Event-ID wins over it.',
  }),
  ...logFilter,
});
export const EventList = z
  .strictObject({
    events: z.array(LogEntry),
    next_after: Revision.meta({
      description: 'Pass it as `after` to go on: so far the log was looked through, which may be past the last entry.',
    }),
    revision: Revision.meta({ description: 'Where the log ends.' }),
  })
  .meta({ id: 'EventList' });

/** SSE event names of every stream: `change`, `bookmark` (revision reached, nothing for you), `compacted` (take a snapshot), `query`. */
export const Bookmark = z.strictObject({ revision: Revision }).meta({ id: 'Bookmark' });
export const Compacted = z.strictObject({ oldest_revision: Revision }).meta({ id: 'Compacted' });

/** The server asks the machine's flow log, which lives there and nowhere else. */
export const FlowQuery = z
  .strictObject({
    id: z.string().max(64),
    protocol: ProtocolName,
    address: z.string(),
    port: Port,
    remote_address: z.string().nullable(),
    remote_port: Port.nullable(),
    at: Instant,
  })
  .meta({ id: 'FlowQuery' });
export const FlowAnswer = z
  .strictObject({
    id: z.string().max(64),
    covers_since: Instant.nullable().meta({ description: 'null: the log knows nothing.' }),
    covers_through: Instant.nullable(),
    clock_margin_s: z.number().min(0).max(60).meta({
      description: "How far the log's instants may be from those of the machine's clock.",
    }),
    flows: z
      .array(
        z.strictObject({
          holder: Name,
          lease: LeaseId.nullable(),
          client: z.string().nullable(),
          remote_address: AddressText,
          remote_port: Port,
          opened_at: Instant,
          closed_at: Instant.nullable(),
        }),
      )
      .max(1_000),
  })
  .meta({ id: 'FlowAnswer' });

const LeaseReport = z.discriminatedUnion('state', [
  z.strictObject({ lease: LeaseId, token: LeaseToken, state: z.literal('active') }),
  z.strictObject({
    lease: LeaseId,
    token: LeaseToken,
    state: z.literal('refused'),
    errno: Text(32),
    detail: Text(500).meta({ description: 'Which port, and whose socket it is where the kernel tells.' }),
  }),
  z.strictObject({ lease: LeaseId, token: LeaseToken, state: z.literal('empty') }),
  z.strictObject({ lease: LeaseId, token: LeaseToken, state: z.literal('unit_gone') }),
]);
const SliceReport = z.strictObject({
  slice: SliceId,
  generation: z.int().min(1),
  state: z.enum(['assigned', 'empty']),
});

export const BootId = Text(64)
  .min(1)
  .meta({
    description:
      'Which boot of which host speaks, so that of two that say they are this machine one is answered: another one after ' +
      'each start of the machine, and in each network namespace, of which a kernel may have many; the same for every process there.',
  });

export const Applied = z
  .strictObject({
    boot_id: BootId.optional().meta({
      description: 'As in keepalives: nobody but the boot that has the machine reports.',
    }),
    revision: Revision.meta({
      description: 'The agent made everything true up to here, but for what it lists as refused.',
    }),
    leases: z.array(LeaseReport).max(10_000),
    slices: z.array(SliceReport).max(10_000),
    clear: z.array(BlockedPorts).max(10_000).optional().meta({
      description: 'Blocked ports on which no stranger is left: they rest, and are granted again.',
    }),
  })
  .meta({ id: 'Applied' });

export const rejectionCodes = [
  'lease_not_found',
  'slice_not_found',
  'not_yours',
  'stale_token',
  'in_use',
  'already_active',
  'no_unit',
  'nothing_blocked',
  'not_routed',
  'reclaimed',
] as const;

export const ReportOutcome = z
  .strictObject({
    item: z.string(),
    code: z.enum(rejectionCodes).meta({
      description:
        'in_use: reported empty, but it is not ending (a slice: not draining, nor granted in by the machine) or has live leases; or reported refused when it was ending, which proves nothing: say empty when nobody is on its ports. already_active: refused after it was made true. no_unit: `unit_gone` for a lease of no unit. stale_token: meant for what was there before. not_routed: a slice that its machine was not told of yet. reclaimed: taken back while the machine was out of reach; drop it.',
    }),
    detail: z.string(),
  })
  .meta({ id: 'ReportOutcome' });
export const AppliedAnswer = z.strictObject({ revision: Revision, rejected: z.array(ReportOutcome) }).meta({
  id: 'AppliedAnswer',
  description: 'A report that names a stale token moves nothing; it is listed, the others count.',
});

export const AgentKeepalive = z
  .strictObject({ boot_id: BootId, version: Text(64), applied_revision: Revision })
  .meta({ id: 'AgentKeepalive' });
export const AgentKeepaliveAnswer = z
  .strictObject({
    epoch: z.string(),
    revision: Revision,
    fence_s: z.int(),
    now: Instant.meta({
      description: "The server's clock, between the keepalive and this answer: deadlines are told by it.",
    }),
  })
  .meta({ id: 'AgentKeepaliveAnswer', description: 'The fencing horizon counts from when this keepalive was sent.' });

export type DesiredPool = z.infer<typeof DesiredPool>;
export type Desired = z.infer<typeof Desired>;
export type Change = z.infer<typeof Change>;
export type LogEntry = z.infer<typeof LogEntry>;
export type PoolTerms = z.infer<typeof PoolTerms>;
export type EventsQuery = z.infer<typeof EventsQuery>;
export type EventsWatchQuery = z.infer<typeof EventsWatchQuery>;
export type EventList = z.infer<typeof EventList>;
export type Bookmark = z.infer<typeof Bookmark>;
export type Compacted = z.infer<typeof Compacted>;
export type FlowQuery = z.infer<typeof FlowQuery>;
export type FlowAnswer = z.infer<typeof FlowAnswer>;
export type BlockedPorts = z.infer<typeof BlockedPorts>;
export type Applied = z.infer<typeof Applied>;
export type ReportOutcome = z.infer<typeof ReportOutcome>;
export type AppliedAnswer = z.infer<typeof AppliedAnswer>;
export type AgentKeepalive = z.infer<typeof AgentKeepalive>;
export type AgentKeepaliveAnswer = z.infer<typeof AgentKeepaliveAnswer>;
export type SessionIdText = z.infer<typeof SessionId>;
