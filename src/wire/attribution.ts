import { z } from 'zod';
import { PageQuery, queryNumber } from './lists.ts';
import { AddressText, Instant, LeaseId, Name, Port, Ports, ProtocolName, SessionId, SliceId } from './primitives.ts';

const instant = z.iso.datetime({ offset: true });

const question = z.strictObject({
  address: AddressText,
  protocol: ProtocolName,
  port: queryNumber(Port),
  at: instant.optional().meta({ description: 'RFC 3339; default now.' }),
  remote_address: AddressText.optional().meta({
    description: 'The other end of the connection, where it is known. It tells several holders of a shared port apart.',
  }),
  remote_port: queryNumber(Port).optional(),
});

type Remote = Readonly<{ remote_address?: unknown; remote_port?: unknown }>;
function wholeRemote({ remote_address, remote_port }: Remote, context: z.RefinementCtx): void {
  if ((remote_address === undefined) === (remote_port === undefined)) return;
  const path = [remote_port === undefined ? 'remote_port' : 'remote_address'];
  context.addIssue({ code: 'custom', path, message: 'remote_address and remote_port go together' });
}

export const AttributionQuery = question.superRefine(wholeRemote);

/** One line of many questions: the parts of a single one, the instant always, and a reference of the caller's own. */
export const BulkQuestion = question
  .extend({
    at: instant,
    ref: z.string().max(200).optional().meta({ description: 'Whatever you know the question by; it comes back.' }),
  })
  .superRefine(wholeRemote);
export const bulkColumns = Object.keys(BulkQuestion.shape) as readonly (keyof typeof BulkQuestion.shape)[];

/**
 * Who used it. Machine: always exactly one, or none owned it. Holder: one where the table or the flow log proves it,
 * otherwise candidates, marked as such.
 */
export const Attribution = z
  .strictObject({
    address: z.string(),
    protocol: ProtocolName,
    port: Port,
    at: Instant,
    machine: z.strictObject({ id: Name, slice: SliceId, generation: z.int() }).nullable(),
    holders: z.array(
      z.strictObject({
        holder: Name,
        lease: LeaseId,
        allocator: z.literal('machine').optional().meta({
          description: 'The machine granted it itself: the number of the lease is one of its broker’s.',
        }),
        mode: z.enum(['exclusive', 'shared']),
        basis: z.enum(['exclusive_lease', 'flow_log', 'only_candidate', 'candidate']).meta({
          description:
            'exclusive_lease: nobody else had the port. flow_log: the machine recorded this flow. only_candidate: the flow log rules out all others. candidate: one of several.',
        }),
        client: z.string().nullable().meta({ description: 'The client behind fish, where the flow log tells.' }),
        from: Instant.meta({ description: 'The instant of the grant: the first that is theirs.' }),
        until: Instant.nullable().meta({
          description: 'The instant at which its users were proven gone: the first that is not theirs. null: it lasts.',
        }),
      }),
    ),
    certainty: z.enum(['exact', 'candidates', 'none', 'unknown', 'machine_allocated']).meta({
      description:
        'none: nobody had it. unknown: nobody is known to have had it, and history of that time was removed. ' +
        'machine_allocated: the machine granted in this slice itself, and to whom it has not told, or not of that instant.',
    }),
    flow_log: z.enum(['not_asked', 'match', 'no_match', 'not_covered', 'unreachable']).meta({
      description:
        "What the machine's flow log said. not_asked: the table alone decides, or no remote was given. not_covered: it does not reach that instant. unreachable: the agent is not connected or did not answer in time.",
    }),
    flow_log_margin_s: z.number().nullable().meta({
      description:
        "How fine the flow log's clock is: a flow counts from so long before it opened until so long after it closed. null: it did not answer.",
    }),
    complete_through: Instant.nullable().meta({
      description:
        "Through when the machine's reports are complete; null: not at all. Where it granted in the slice itself: by its own clock, through when its broker told to whom.",
    }),
    history_since: Instant.nullable().meta({
      description: 'What was over before has been removed, see `history_kept_days`. null: nothing was ever removed.',
    }),
  })
  .meta({ id: 'Attribution' });

export const AttributionHistoryQuery = PageQuery.extend({
  address: AddressText.optional().meta({ description: 'Who had a port of this address; with `port`.' }),
  port: queryNumber(Port).optional(),
  protocol: ProtocolName.optional().meta({ description: 'With `address` and `port`; default: any.' }),
  machine: Name.optional().meta({ description: 'What a holder of this machine had; with `holder`.' }),
  holder: Name.optional(),
  since: instant.optional().meta({ description: 'RFC 3339; default a day before `until`.' }),
  until: instant.optional().meta({ description: 'RFC 3339; the first instant that does not count; default now.' }),
}).superRefine((query, context) => {
  const complain = (path: string, message: string) => context.addIssue({ code: 'custom', path: [path], message });
  const [port, holder] = [
    [query.address, query.port],
    [query.machine, query.holder],
  ].map((pair) => pair.filter((part) => part !== undefined).length);
  if (port === 1) complain(query.address === undefined ? 'address' : 'port', 'address and port go together');
  else if (holder === 1) complain(query.machine === undefined ? 'machine' : 'holder', 'machine and holder go together');
  else if (port === holder) complain('address', 'either address and port, or machine and holder');
  if (query.protocol !== undefined && port === 0) complain('protocol', 'goes with address and port');
  if (query.since !== undefined && query.until !== undefined && Date.parse(query.since) > Date.parse(query.until))
    complain('since', 'must not be after until');
});

/** A lease as the past shows it: whose it was, and from when until when. */
export const PastLease = z
  .strictObject({
    lease: LeaseId,
    allocator: z.literal('machine').optional().meta({
      description: 'The machine granted it itself: the number of the lease is one of its broker’s.',
    }),
    machine: Name,
    slice: SliceId,
    generation: z.int(),
    holder: Name,
    session: SessionId.nullable(),
    address: z.string(),
    protocol: ProtocolName,
    ports: Ports,
    mode: z.enum(['exclusive', 'shared']),
    from: Instant.meta({ description: 'The instant of the grant: the first that is theirs.' }),
    active_at: Instant.nullable().meta({ description: 'When the agent had made it true.' }),
    ending_at: Instant.nullable().meta({ description: 'When it was released, revoked, or its session ended.' }),
    ending: z.string().nullable().meta({ description: 'Why it ended.' }),
    until: Instant.nullable().meta({
      description: 'The instant at which its users were proven gone: the first that is not theirs. null: it lasts.',
    }),
  })
  .meta({ id: 'PastLease' });

export const AttributionHistory = z
  .strictObject({
    items: z.array(PastLease).meta({ description: 'In the order of the grants.' }),
    next: z.string().nullable().meta({
      description: 'Pass it as `cursor` for the next page; null: this is the last. A page may be short and go on.',
    }),
    machines: z
      .array(z.strictObject({ id: Name, complete_through: Instant.nullable() }))
      .meta({ description: 'Through when the reports of each machine on this page are complete.' }),
    machine_allocated: z
      .array(
        z.strictObject({
          machine: Name,
          slice: SliceId,
          generation: z.int(),
          from: Instant,
          until: Instant.nullable().meta({ description: 'null: it does so still.' }),
        }),
      )
      .meta({
        description:
          'Where a machine granted itself within this time, on this port or (asked about a holder) on its machine, and did not ' +
          'tell to whom, or not yet: what it granted there is not in this list. The latest first, at most 100.',
      }),
    history_since: Instant.nullable().meta({
      description: 'What was over before has been removed, see `history_kept_days`. null: nothing was ever removed.',
    }),
  })
  .meta({ id: 'AttributionHistory' });

/** Many lines. What stands in them, `BulkQuestion` and `BulkAnswer` say. */
export const BulkText = z.string();

/** One line of the answers: to the line of the questions with this number. Every question has one, in their order. */
export const BulkAnswer = z
  .union([
    Attribution.safeExtend({ line: z.int().min(1), ref: z.string().nullable() }),
    z.strictObject({
      line: z.int().min(1),
      ref: z.string().nullable(),
      error: z.strictObject({ code: z.string(), detail: z.string() }),
    }),
  ])
  .meta({ id: 'BulkAnswer' });

export type BulkQuestion = z.infer<typeof BulkQuestion>;
export type BulkAnswer = z.infer<typeof BulkAnswer>;
export type AttributionHistoryQuery = z.infer<typeof AttributionHistoryQuery>;
export type AttributionHistory = z.infer<typeof AttributionHistory>;
export type PastLease = z.infer<typeof PastLease>;
export type AttributionQuery = z.infer<typeof AttributionQuery>;
export type Attribution = z.infer<typeof Attribution>;
