import { blockMask } from '../net/ports.ts';
import type { Protocol } from '../net/protocol.ts';
import type { Tenure } from '../leases/model.ts';
import type { Broker } from '../leases/reported.ts';
import type { PastLease } from '../leases/store.ts';
import { party, reportedSpan, spanBounds_us } from './history-keys.ts';
import { brokerOf, reportedLeaseOf, type BrokerRow, type ReportedLeaseRow } from './reported-rows.ts';
import { all, map, one, type Parameters, type Read } from './statement.ts';

/** Who had what where machines granted themselves, by what they reported: like `history.ts`, over tables of their own. */

export function* brokerNamed(machine: string): Read<Broker | undefined> {
  return map(yield* one<BrokerRow>('SELECT * FROM brokers WHERE machine = @machine', { machine }), brokerOf);
}

/** Where blocks with this port begin, the smallest block first; none begins below the slice that they are in. */
export const firstsOf = (port: number, lowest = 0): readonly number[] =>
  [...new Set(Array.from({ length: 17 }, (_, order) => (order === 16 ? 0 : port & blockMask(2 ** order))))].filter(
    (first) => first >= lowest,
  );

/** Values as a list in SQL (`@first_0, @first_1`), each by a name of its own. */
export function listOf(
  name: string,
  values: readonly number[],
): Readonly<{ names: readonly string[]; values: Parameters }> {
  const named = values.map((value, index) => [`${name}_${index}`, value] as const);
  return { names: named.map(([key]) => `@${key}`), values: Object.fromEntries(named) };
}

const here = 'slice = @slice AND generation = @generation AND protocol = @protocol';

/** Each party that ever had a lease in one of the blocks, from one to the next in the index. */
const partiesOf = (names: readonly string[]): string => `
  block (first_port) AS (VALUES ${names.map((name) => `(${name})`).join(', ')}),
  parties (first_port, name) AS (
    SELECT first_port, (SELECT ${party} FROM reported_leases WHERE ${here} AND first_port = block.first_port
      ORDER BY ${party} LIMIT 1) FROM block
    UNION ALL
    SELECT first_port, (SELECT ${party} FROM reported_leases WHERE ${here} AND first_port = parties.first_port
      AND ${party} > parties.name ORDER BY ${party} LIMIT 1) FROM parties WHERE name IS NOT NULL)`;

/** A row with when its machine had the slice no longer. */
type TimedRow = ReportedLeaseRow & Readonly<{ tenure_until: number | null }>;
const timed = `SELECT reported_leases.*, tenures.until_at AS tenure_until FROM reported_leases LEFT JOIN tenures
  ON tenures.slice = reported_leases.slice AND tenures.generation = reported_leases.generation`;

/** With the end of the tenure nobody on the machine has the ports any more, whether or not that was told. */
function pastLeaseOf({ tenure_until, ...row }: TimedRow): PastLease {
  const { incarnation: _, told: __, ...lease } = reportedLeaseOf(row);
  return { ...lease, unit: null, forced: false, emptyAt: lease.emptyAt ?? tenure_until, byMachine: true };
}

export function* reportedAt(
  { slice, generation, ports }: Tenure,
  protocol: Protocol,
  port: number,
  at: number,
): Read<readonly PastLease[]> {
  const { names, values } = listOf('first', firstsOf(port, ports.first));
  // Of each party the lease that was granted last before the instant is the only one that can have been there at it.
  const found = yield* all<TimedRow>(
    `WITH RECURSIVE ${partiesOf(names)}
     SELECT timed.* FROM parties JOIN (${timed}) AS timed ON timed.first_port = parties.first_port
       AND timed.slice = @slice AND timed.generation = @generation AND timed.protocol = @protocol
       AND timed.granted_at = (
         SELECT max(granted_at) FROM reported_leases WHERE ${here} AND first_port = parties.first_port
         AND ${party} = parties.name AND granted_at <= @at)
     WHERE parties.name IS NOT NULL AND ${party} = parties.name AND last_port >= @port AND state <> 'refused'
       AND coalesce(empty_at, tenure_until, @at + 1) > @at
     ORDER BY granted_at, id`,
    { slice, generation, protocol, port, at, ...values },
  );
  return found.map(pastLeaseOf);
}

/** The last one that was looked at, in the order of grants. */
export type ReportedPlace = Readonly<{ grantedAt: number; incarnation: number; id: number }>;
/** The next ones after a place, up to `limit`, that were there at any time within the question's. */
export type ReportedPart = (after: ReportedPlace, limit: number) => Read<readonly PlacedLease[]>;
type PlacedLease = Readonly<{ place: ReportedPlace; lease: PastLease }>;

const placed = (row: TimedRow): PlacedLease => ({
  place: { grantedAt: row.granted_at, incarnation: row.incarnation, id: row.id },
  lease: pastLeaseOf(row),
});

const next = (where: string): string =>
  `${timed} WHERE ${where} AND (granted_at, incarnation, id) > (@after, @after_incarnation, @after_id)
   AND granted_at < @until ORDER BY granted_at, incarnation, id LIMIT @limit`;
const after = ({ grantedAt, incarnation, id }: ReportedPlace): Parameters => ({
  after: grantedAt,
  after_incarnation: incarnation,
  after_id: id,
});

type Time = Readonly<{ since: number; until: number }>;

/** Leases overlap in time, so those that were there at `since` are looked for class by class of how long they lasted. */
export function reportedOfHolder(of: Readonly<{ machine: string; holder: string }> & Time): readonly ReportedPart[] {
  const { machine, holder, since, until } = of;
  const over = [...spanBounds_us, Infinity].map((bound, index): ReportedPart => {
    return function* (place, limit) {
      const begun = { grantedAt: since - bound - 1, incarnation: 0, id: 0 };
      const from = bound !== Infinity && begun.grantedAt > place.grantedAt ? begun : place;
      const found = yield* all<TimedRow>(
        next(
          `reported_leases.machine = @machine AND holder = @holder AND ${reportedSpan} = @span AND over_at > @since`,
        ),
        { machine, holder, span: index, since, until, limit, ...after(from) },
      );
      return found.map(placed);
    };
  });
  const live: ReportedPart = function* (place, limit) {
    const found = yield* all<TimedRow>(next('reported_leases.machine = @machine AND over_at IS NULL'), {
      ...{ machine, until, limit },
      ...after(place),
    });
    return found.map(placed);
  };
  return [...over, live];
}

type OnPort = Readonly<{ port: number; protocols: readonly Protocol[] }> & Time;

/** Of the tenures in which the machine granted itself: the leases of one party in a block follow one another. */
export function* reportedOfPort(
  { port, protocols, since, until }: OnPort,
  tenures: readonly Readonly<{ slice: number; generation: number; lowest: number }>[],
): Read<readonly ReportedPart[]> {
  const parts: ReportedPart[] = [];
  for (const { slice, generation, lowest } of tenures)
    for (const protocol of protocols) {
      const { names, values } = listOf('first', firstsOf(port, lowest));
      const where = { slice, generation, protocol };
      const found = yield* all<{ first_port: number; name: string }>(
        `WITH RECURSIVE ${partiesOf(names)} SELECT * FROM parties WHERE name IS NOT NULL`,
        { ...where, ...values },
      );
      for (const { first_port: first, name } of found)
        parts.push(function* (place, limit) {
          const its = `reported_leases.slice = @slice AND reported_leases.generation = @generation
            AND protocol = @protocol AND reported_leases.first_port = @first AND ${party} = @name`;
          const rows = yield* all<TimedRow>(
            // From the last one that was granted before: those ahead of it were over when it came.
            next(`${its} AND granted_at >= coalesce((SELECT max(granted_at) FROM reported_leases AS begun
              WHERE begun.slice = @slice AND begun.generation = @generation AND begun.protocol = @protocol
              AND begun.first_port = @first AND ${party.replaceAll(/\b(mode|holder)\b/g, 'begun.$1')} = @name
              AND begun.granted_at <= @since), 0)`),
            { ...where, first, name, since, until, limit, ...after(place) },
          );
          return rows.map(placed);
        });
    }
  return parts;
}
