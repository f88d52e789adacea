import { z } from 'zod';
import { leaseEndings, leaseStates } from './leases.ts';
import {
  AllocatorName,
  FamilyNumber,
  Instant,
  LeaseId,
  LeaseToken,
  Name,
  Ports,
  ProtocolName,
  Revision,
  SessionId,
  SliceId,
  Text,
} from './primitives.ts';
import { sessionEndings } from './sessions.ts';

/**
 * What passes between the server and the broker of one machine, which grants by itself in the slices whose allocator is
 * `machine`. Two conversations: the broker reports what it granted, and the server forwards what it was asked for there.
 *
 * The broker's identifiers are its own (`lease-7`, `session-3`, numbered by its own log); beside the machine's name and
 * `allocator: machine` they mean one thing. A broker whose table is not the one that it was takes another `broker_epoch`,
 * under which the same numbers may mean other things.
 *
 * **Reports.** The broker promises: each report tells every session and lease that its log changed in (`after`, `through`],
 * each once, in its whole state of then or later; reports follow one another, so that each one's `after` is the `through`
 * before; `as_of` is the machine's clock at a moment at which the log ended at `through`. An entry is owed when a session
 * opens or ends, and when a lease is granted, made true, refused, ended by itself, proven empty, or over. What follows by
 * itself need not be told: keepalives, that the leases of an ended session are `ending`, and that the rest of a lease is
 * over, of which `reusable_at` was told. The first report under an epoch, and whichever follows a `report_gap` that cannot
 * be filled from the log, is a snapshot: pages with the same `through`, which together tell everything that lives and, as
 * far back as `history_since`, everything that is over.
 *
 * The server promises: what it answered is durable; the same report again is the same answer, nothing is counted twice; a
 * report that does not follow what it has is refused (`report_gap`), changes nothing, and says where it stands; an entry
 * that it cannot take is listed, and the others count. It never grants, expires or frees there. With the last page of a
 * snapshot what the snapshot does not tell of is taken to be over. A slice that the machine reports empty rests only when
 * every lease that was reported there is proven empty: so reports come first.
 *
 * **Requests.** The server promises: a request comes to the agent's stream at most once, after the role, machine and holder
 * of its caller were looked at, as the event `request`. The broker promises to answer within `timeout_s`, as its own API
 * would answer this principal, and to carry out once what comes again under the same token and key. Whether a request that
 * was not answered in time was carried out, nobody says; its key finds out.
 */

/** Sessions and leases in one report, together: it bounds for how long grants wait behind it. */
export const report_entries_max = 2_000;
const usage_rows_max = 1_000;

/** Names a broker's table: random, made with it, and made anew when it may lack what was answered. */
export const BrokerEpoch = Text(64).min(1);

export const ReportedSession = z
  .strictObject({
    id: SessionId,
    holder: Name,
    state: z.enum(['live', 'ended']),
    ending: z.enum(sessionEndings).nullable(),
    ttl_s: z.int().min(1),
    expires_at: Instant.meta({ description: 'As it was then: keepalives are not reported.' }),
    opened_at: Instant,
    ended_at: Instant.nullable(),
    revision: Revision.meta({ description: "Of the broker's log." }),
  })
  .refine((it) => (it.state === 'ended') === (it.ending !== null && it.ended_at !== null), {
    path: ['ended_at'],
    message: 'an ended session says how and when, a live one neither',
  })
  .meta({ id: 'ReportedSession' });

export const ReportedLease = z
  .strictObject({
    id: LeaseId,
    token: LeaseToken.meta({
      description: "Generation of the slice, as the server counts it; epoch and sequence of the broker's own.",
    }),
    session: SessionId.nullable().meta({ description: 'null: a reservation.' }),
    holder: Name,
    slice: SliceId.meta({ description: "By the server's number." }),
    protocol: ProtocolName,
    ports: Ports,
    mode: z.enum(['exclusive', 'shared']),
    binding: z.enum(['late', 'explicit']).nullable(),
    state: z.enum(leaseStates),
    ending: z.enum(leaseEndings).nullable(),
    refusal: z.strictObject({ errno: Text(32), detail: Text(500) }).nullable(),
    granted_at: Instant,
    active_at: Instant.nullable(),
    ending_at: Instant.nullable(),
    empty_at: Instant.nullable().meta({
      description: 'When its users were proven gone: the first instant that is not its holder’s.',
    }),
    reusable_at: Instant.nullable(),
    ended_at: Instant.nullable(),
    revision: Revision.meta({ description: "Of the broker's log." }),
  })
  .refine((it) => (it.ended_at !== null) === (it.state === 'ended' || it.state === 'refused'), {
    path: ['ended_at'],
    message: 'goes with the states ended and refused, and with no other',
  })
  .refine((it) => it.state !== 'cooling' || (it.empty_at !== null && it.reusable_at !== null), {
    path: ['reusable_at'],
    message: 'a lease that rests says since when and until when',
  })
  .refine((it) => it.state !== 'ended' || it.empty_at !== null, {
    path: ['empty_at'],
    message: 'what is ended was proven empty before',
  })
  .refine(
    (it) => (it.binding !== null) === (it.mode === 'shared') && (it.mode === 'exclusive' || it.protocol === 'tcp'),
    {
      path: ['binding'],
      message: 'goes with the mode shared, which is for tcp',
    },
  )
  .meta({ id: 'ReportedLease', description: 'A lease in the whole state that it is in.' });

export const ReportedPorts = z
  .strictObject({
    pool: Name,
    family: FamilyNumber,
    protocol: ProtocolName,
    state: z.enum(['free', 'withheld', 'blocked', 'exclusive', 'shared', 'cooling']),
    ports: z.int().min(0).max(Number.MAX_SAFE_INTEGER),
  })
  .meta({
    id: 'ReportedPorts',
    description: 'How many ports of the slices that the machine grants in are in which use.',
  });

export const GrantedReport = z
  .strictObject({
    boot_id: Text(64).min(1).optional().meta({
      description: 'As in keepalives: nobody but the boot that has the machine reports.',
    }),
    broker_epoch: BrokerEpoch,
    after: Revision.meta({ description: "Of the broker's log: `through` of the report before. Of a snapshot: 0." }),
    through: Revision,
    as_of: Instant.meta({
      description: 'All that the broker granted and ended before this instant of its clock is told, up to here.',
    }),
    snapshot: z
      .strictObject({
        page: z.int().min(1).max(1_000_000).meta({ description: 'From 1. Page 1 begins anew, whatever came before.' }),
        last: z.boolean(),
        history_since: Instant.meta({
          description: 'What was over before may be missing. Where nothing is: when the table was made.',
        }),
      })
      .nullable()
      .default(null),
    sessions: z.array(ReportedSession).max(report_entries_max).default([]),
    leases: z.array(ReportedLease).max(report_entries_max).default([]),
    ports: z
      .array(ReportedPorts)
      .max(usage_rows_max)
      .optional()
      .meta({ description: 'All of them, as they are now. Left out: as they were told before.' }),
    counters: z
      .strictObject({ granted: z.int().min(0), refused: z.int().min(0), ended: z.int().min(0) })
      .optional()
      .meta({
        description: 'Leases since the broker started: granted, requests refused for want of ports, and ended.',
      }),
  })
  .refine((it) => it.after <= it.through, { path: ['through'], message: 'must not be below after' })
  .refine((it) => it.snapshot === null || it.after === 0, { path: ['after'], message: 'is 0 in a snapshot' })
  .refine((it) => it.sessions.length + it.leases.length <= report_entries_max, {
    path: ['leases'],
    message: `at most ${report_entries_max} sessions and leases in one report`,
  })
  .meta({ id: 'GrantedReport', description: 'What the broker of a machine granted and ended since its last report.' });

export const grantRejectionCodes = ['not_allocated', 'stale_generation', 'outside_slice'] as const;
export const GrantedAnswer = z
  .strictObject({
    broker_epoch: BrokerEpoch,
    through: Revision.meta({ description: 'So far is everything known; of a snapshot only after its last page.' }),
    page: z.int().min(0).meta({ description: 'The page of a snapshot that came last; 0: no snapshot is under way.' }),
    rejected: z
      .array(
        z.strictObject({
          item: LeaseId,
          code: z.enum(grantRejectionCodes).meta({
            description:
              'not_allocated: the machine never had this generation of the slice to grant in. stale_generation: it has it no ' +
              'longer, and the lease is not told to be over. outside_slice: the ports are not of the slice.',
          }),
          detail: z.string(),
        }),
      )
      .meta({ description: 'Entries that were not taken; the others count.' }),
  })
  .meta({ id: 'GrantedAnswer' });

/** Where the server stands; also the `broker` of the problem `report_gap`. null: it has nothing of this machine's broker. */
export const BrokerPosition = z
  .strictObject({ broker_epoch: BrokerEpoch.nullable(), through: Revision, page: z.int().min(0) })
  .meta({ id: 'BrokerPosition' });

/** What the server knows of a machine's broker, for people and for `complete_through`. */
export const Broker = z
  .strictObject({
    broker_epoch: BrokerEpoch,
    through: Revision,
    as_of: Instant,
    complete_since: Instant.meta({
      description: 'From here until `as_of` it is whole what the machine said that it granted.',
    }),
    reported_at: Instant,
    ports: z.array(ReportedPorts),
    counters: z.strictObject({ granted: z.int(), refused: z.int(), ended: z.int() }),
  })
  .meta({ id: 'Broker', description: 'What the broker of the machine reported last.' });

/** The roles whose requests are carried out for them; who it is, the server's token said. */
export const forwardedRoles = ['operator', 'agent', 'holder', 'viewer'] as const;

/** Data of the event `request` on the stream of a machine's agent. */
export const ForwardedRequest = z
  .strictObject({
    id: z.string().min(1).max(128).meta({ description: 'To be named in the answer; unique.' }),
    request_id: z.string().max(64).meta({ description: 'What logs call the request.' }),
    method: z.enum(['GET', 'POST', 'DELETE']),
    path: z
      .string()
      .max(2_000)
      .meta({
        description: 'Path and query as the broker’s own API takes them: `/v1/leases?wait=stored`.',
        examples: ['/v1/sessions/session-3/keepalive'],
      }),
    body: z.unknown().meta({ description: 'JSON; null: none.' }),
    idempotency_key: z.string().max(255).nullable(),
    principal: z.strictObject({
      token: z.int().meta({ description: "The server's number of the token: keys are scoped by it." }),
      name: z.string(),
      role: z.enum(forwardedRoles),
      holder: Name.nullable().meta({ description: 'Of a holder: the only one that it acts for.' }),
    }),
    timeout_s: z.number().min(0).meta({
      description: 'For so long somebody waits for the answer, from when the event came. Carry nothing out after that.',
    }),
  })
  .meta({ id: 'ForwardedRequest' });

export const ForwardedAnswer = z
  .strictObject({
    id: z.string().min(1).max(128),
    status: z.int().min(200).max(599),
    content_type: Text(100).default('application/json').meta({
      description: '`application/json`, or `application/problem+json` of a refusal.',
    }),
    body: z.unknown().meta({ description: 'The JSON document, as such; null: none.' }),
    retry_after_s: z.int().min(0).max(86_400).optional(),
    replayed: z.boolean().optional().meta({ description: 'An answer given before, under the same Idempotency-Key.' }),
  })
  .meta({ id: 'ForwardedAnswer', description: 'What the broker’s own API would have answered.' });

/** Query of every operation that can be forwarded: in whose space the named session or lease is. */
export const allocatorQuery = {
  allocator: AllocatorName.optional().meta({
    description:
      'machine: of what the broker of `machine` granted. A request is forwarded to it; a read shows what it reported.',
  }),
  machine: Name.optional().meta({ description: 'With `allocator=machine`: which one.' }),
};

export const BrokerOf = z.strictObject(allocatorQuery);

export type ReportedSession = z.infer<typeof ReportedSession>;
export type ReportedLease = z.infer<typeof ReportedLease>;
export type ReportedPorts = z.infer<typeof ReportedPorts>;
export type GrantedReport = z.infer<typeof GrantedReport>;
export type GrantedReportInput = z.input<typeof GrantedReport>;
export type GrantedAnswer = z.infer<typeof GrantedAnswer>;
export type BrokerPosition = z.infer<typeof BrokerPosition>;
export type Broker = z.infer<typeof Broker>;
export type ForwardedRequest = z.infer<typeof ForwardedRequest>;
export type ForwardedAnswer = z.infer<typeof ForwardedAnswer>;
export type ForwardedAnswerInput = z.input<typeof ForwardedAnswer>;
