import { reportedInEffect, type Broker, type ReportedLease, type ReportedSession } from '../leases/reported.ts';
import type { Revocation, Session } from '../leases/model.ts';
import { prefixKeys } from '../net/prefix.ts';
import type { PageOf, PageRequest, ReportedLeaseFilter, ReportedSessionFilter } from '../leases/store.ts';
import { byNumber, scan } from './paging.ts';
import { brokerNamed } from './reported-history.ts';
import { reportedLeaseOf, reportedSessionOf, type ReportedLeaseRow, type ReportedSessionRow } from './reported-rows.ts';
import { all, map, one, type Parameters, type Read } from './statement.ts';

/** What a broker reported under its present epoch; what it told under another one is history, and has other numbers. */

type LeaseInTime = ReportedLeaseRow &
  Readonly<{
    session_state: string | null;
    session_ending: string | null;
    session_ended_at: number | null;
    tenure_until: number | null;
  }>;

const leaseSelect = `SELECT reported_leases.*, its.state AS session_state, its.ending AS session_ending,
  its.ended_at AS session_ended_at, tenures.until_at AS tenure_until
  FROM reported_leases
  LEFT JOIN reported_sessions AS its ON its.machine = reported_leases.machine
    AND its.incarnation = reported_leases.incarnation AND its.id = reported_leases.session
  LEFT JOIN tenures ON tenures.slice = reported_leases.slice AND tenures.generation = reported_leases.generation
  WHERE reported_leases.machine = @machine AND reported_leases.incarnation = @incarnation`;

const leaseAt =
  (now: number) =>
  ({ session_state, session_ending, session_ended_at, tenure_until, ...row }: LeaseInTime): ReportedLease =>
    reportedInEffect(reportedLeaseOf(row), {
      session:
        session_state === null
          ? undefined
          : {
              state: session_state as Session['state'],
              ending: session_ending as Session['ending'],
              endedAt: session_ended_at,
            },
      tenureUntil: tenure_until,
      now,
    });

const nothing = { items: [], next: null };
const placeOf = ({ machine, incarnation }: Broker): Parameters => ({ machine, incarnation });

export function* lease(machine: string, id: number, now: number): Read<ReportedLease | undefined> {
  const broker = yield* brokerNamed(machine);
  if (!broker) return undefined;
  const row = yield* one<LeaseInTime>(`${leaseSelect} AND reported_leases.id = @id`, { ...placeOf(broker), id });
  return map(row, leaseAt(now));
}

export function* leases(
  machine: string,
  filter: ReportedLeaseFilter,
  now: number,
  page: PageRequest,
): Read<PageOf<ReportedLease>> {
  const broker = yield* brokerNamed(machine);
  if (!broker) return nothing;
  const { session } = filter;
  // A session has an index of its own; so has what keeps a slice from being empty, but not what was there before.
  const its =
    session === undefined ? '' : ` AND reported_leases.session ${session === null ? 'IS NULL' : '= @session'}`;
  const sql = `${leaseSelect}${its} AND reported_leases.id > @after ORDER BY reported_leases.id LIMIT @limit`;
  const where = { ...placeOf(broker), ...(session == null ? {} : { session }) };
  return yield* scan<LeaseInTime, ReportedLease>(page, byNumber, { fields: filter }, leaseAt(now), (after, limit) =>
    all(sql, { ...where, after, limit }),
  );
}

const sessionSelect = `SELECT * FROM reported_sessions WHERE machine = @machine AND incarnation = @incarnation`;

export function* session(machine: string, id: number): Read<ReportedSession | undefined> {
  const broker = yield* brokerNamed(machine);
  if (!broker) return undefined;
  const row = yield* one<ReportedSessionRow>(`${sessionSelect} AND id = @id`, { ...placeOf(broker), id });
  return map(row, reportedSessionOf);
}

export function* sessions(
  machine: string,
  filter: ReportedSessionFilter,
  page: PageRequest,
): Read<PageOf<ReportedSession>> {
  const broker = yield* brokerNamed(machine);
  if (!broker) return nothing;
  const sql = `${sessionSelect} AND id > @after ORDER BY id LIMIT @limit`;
  return yield* scan<ReportedSessionRow, ReportedSession>(
    page,
    byNumber,
    { fields: filter },
    reportedSessionOf,
    (after, limit) => all(sql, { ...placeOf(broker), after, limit }),
  );
}

/** Of slices that their machines have still: in what was given back nobody is. */
export function* leftOf({ machine, holder, pools, prefix, session, createdAt }: Revocation): Read<number> {
  const keys = prefix === null ? null : prefixKeys(prefix);
  // Each that is not null narrows it.
  const scope = [
    machine !== null && 'reported_leases.machine = @machine',
    holder !== null && 'reported_leases.holder = @holder',
    session !== null && 'reported_leases.session = @session',
    // Names have no character that LIKE takes for more than itself.
    pools !== null && `@pools LIKE '%,' || reported_leases.pool || ',%'`,
    keys !== null && 'slices.address_key >= @from_key AND slices.address_key <= @to_key',
  ].flatMap((condition) => (condition === false ? [] : [` AND ${condition}`]));
  const found = yield* one<Readonly<{ count: number }>>(
    `SELECT count(*) AS count FROM reported_leases
     JOIN brokers ON brokers.machine = reported_leases.machine AND brokers.incarnation = reported_leases.incarnation
     JOIN slices ON slices.id = reported_leases.slice AND slices.generation = reported_leases.generation
     WHERE reported_leases.empty_at IS NULL AND reported_leases.state <> 'refused' AND reported_leases.granted_at < @at
     AND slices.state IN ('assigning', 'assigned', 'draining')${scope.join('')}`,
    {
      at: createdAt,
      ...(machine === null ? {} : { machine }),
      ...(holder === null ? {} : { holder }),
      ...(session === null ? {} : { session }),
      ...(pools === null ? {} : { pools: `,${pools.join(',')},` }),
      ...(keys === null ? {} : { from_key: keys.first, to_key: keys.last }),
    },
  );
  return found?.count ?? 0;
}
