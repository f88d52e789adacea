import type { Address } from '../net/address.ts';
import { ceilLog2 } from '../net/ports.ts';
import { protocols, type Protocol } from '../net/protocol.ts';
import type { Lease, Tenure } from '../leases/model.ts';
import type { PageOf, PageRequest, PastLease, PastUse, PortInstant, UsesFilter } from '../leases/store.ts';
import { leaseReader, leaseSelect, machine as machineNamed, type LeaseAndSession } from './composed-reads.ts';
import { party, span, spanBounds_us } from './history-keys.ts';
import {
  brokerNamed,
  firstsOf,
  listOf,
  reportedAt,
  reportedOfHolder,
  reportedOfPort,
  type ReportedPart,
  type ReportedPlace,
} from './reported-history.ts';
import * as rows from './rows.ts';
import { all, map, one, type Parameters, type Read } from './statement.ts';

/**
 * Who had what when. Slices and leases are aligned blocks, so that the ones with a port begin at the port with some of its
 * low bits cleared: seventeen places at most, each a step in an index. However much is over, no answer goes through it.
 */

/** Rows that one page looks at: some tens of milliseconds, however rare what is looked for is among them. */
const rows_looked_at_max = 20_000;
/** The first rows of a page may be none of those that are wanted. */
const rows_per_read_min = 16;

export function* historySince(): Read<number | null> {
  const row = yield* one<{ complete_since: number }>('SELECT complete_since FROM history');
  return row?.complete_since ?? null;
}

export function* whoHad({ address, protocol, port, at }: PortInstant): Read<PastUse> {
  const tenure = yield* tenureAt(address, port, at);
  const isOwn = tenure?.allocator === 'machine';
  const leases = tenure ? yield* (isOwn ? reportedAt : leasesAt)(tenure, protocol, port, at) : [];
  const holders: rows.HolderRow[] = [];
  for (const name of new Set(leases.map((lease) => lease.holder))) {
    const sql = 'SELECT * FROM holders WHERE machine = @machine AND name = @name';
    holders.push(...(yield* all<rows.HolderRow>(sql, { machine: tenure?.machine ?? '', name })));
  }
  return {
    tenure: tenure ?? null,
    machine: (tenure && (yield* machineNamed(tenure.machine))) ?? null,
    broker: (isOwn ? yield* brokerNamed(tenure.machine) : undefined) ?? null,
    leases,
    holders: holders.map(rows.holderOf),
    historySince: yield* historySince(),
  };
}

function* tenureAt(address: Address, port: number, at: number) {
  const firsts = listOf('first', firstsOf(port));
  // At one place tenures follow one another: the last that had begun is the only one that can have lasted.
  const row = yield* one<rows.TenureRow>(
    `WITH place (first_port) AS (VALUES ${firsts.names.map((name) => `(${name})`).join(', ')})
     SELECT tenures.* FROM place JOIN tenures ON address = @address AND tenures.first_port = place.first_port
       AND from_at = (SELECT max(from_at) FROM tenures AS begun
         WHERE begun.address = @address AND begun.first_port = place.first_port AND begun.from_at <= @at)
     WHERE last_port >= @port AND (until_at IS NULL OR until_at > @at)`,
    { address, port, at, ...firsts.values },
  );
  return map(row, rows.tenureOf);
}

const past = 'slice = @slice AND protocol = @protocol AND ended_at IS NOT NULL';

/** Each party that ever had a lease in one of the blocks, from one to the next in the index. */
const partiesOf = (names: readonly string[]): string => `
  block (first_port) AS (VALUES ${names.map((name) => `(${name})`).join(', ')}),
  parties (first_port, name) AS (
    SELECT first_port, (SELECT ${party} FROM leases WHERE ${past} AND first_port = block.first_port
      ORDER BY ${party} LIMIT 1) FROM block
    UNION ALL
    SELECT first_port, (SELECT ${party} FROM leases WHERE ${past} AND first_port = parties.first_port
      AND ${party} > parties.name ORDER BY ${party} LIMIT 1) FROM parties WHERE name IS NOT NULL)`;

function* leasesAt(
  { slice, generation, ports }: Tenure,
  protocol: Protocol,
  port: number,
  at: number,
): Read<readonly Lease[]> {
  const leaseOf = yield* leaseReader();
  const { names, values } = listOf('first', firstsOf(port, ports.first));
  const had = `leases.generation = @generation AND leases.last_port >= @port AND leases.granted_at <= @at
    AND coalesce(leases.empty_at, @at + 1) > @at AND leases.state <> 'refused'`;
  const parameters = { slice, generation, protocol, port, at, ...values };
  const live = yield* all<LeaseAndSession>(
    `${leaseSelect} WHERE leases.slice = @slice AND leases.protocol = @protocol AND leases.ended_at IS NULL
     AND leases.first_port IN (${names.join(', ')}) AND ${had}`,
    parameters,
  );
  // Of each party the lease that was over next after the instant is the only one that can have been there at it.
  const over = yield* all<rows.LeaseRow>(
    `WITH RECURSIVE ${partiesOf(names)}
     SELECT leases.* FROM parties JOIN leases ON leases.id = (
       SELECT id FROM leases WHERE ${past} AND first_port = parties.first_port AND ${party} = parties.name
       AND ended_at > @at ORDER BY ended_at LIMIT 1)
     WHERE ${had}`,
    parameters,
  );
  return [...over.map(rows.leaseOf), ...live.map(leaseOf)].sort(byGrant);
}

/** The last lease that was looked at. Log time only rises, so both columns order alike, and each index can use its own. */
type Place = Readonly<{ grantedAt: number; id: number }>;
/** A part of the history in the order of grants: where up to `limit` leases are, from after a place in that order. */
type Part = (after: Place, limit: number) => Read<readonly Place[]>;
type PlaceRow = Readonly<{ granted_at: number; id: number }>;

const byGrant = (a: Place, b: Place): number => a.grantedAt - b.grantedAt || a.id - b.id;
const placeOf = ({ granted_at, id }: PlaceRow): Place => ({ grantedAt: granted_at, id });

/** What the server granted and what machines reported have an order of their own each; a page has both, by their grants. */
export function* uses(of: UsesFilter, { limit, cursor }: PageRequest): Read<PageOf<PastLease>> {
  const parts = 'holder' in of ? partsOfHolder(of) : yield* partsOfPort(of);
  const reportedParts = 'holder' in of ? reportedOfHolder(of) : yield* reportedPartsOfPort(of);
  const [grantedAt = -1, id = -1, ...reported] = cursor === null ? [] : cursor.split('-').map(Number);
  let place: Place = { grantedAt, id };
  let reportedPlace: ReportedPlace = {
    grantedAt: reported[0] ?? -1,
    incarnation: reported[1] ?? 0,
    id: reported[2] ?? 0,
  };
  const items: PastLease[] = [];
  const next = () =>
    [place.grantedAt, place.id, reportedPlace.grantedAt, reportedPlace.incarnation, reportedPlace.id]
      .map((part) => Math.max(part, 0))
      .join('-');
  for (let looked = 0; looked < rows_looked_at_max;) {
    const rowsMax = Math.max(rows_per_read_min, limit + 1 - items.length);
    const own = yield* nextOf(parts, place, rowsMax);
    const told = yield* nextReported(reportedParts, reportedPlace, rowsMax);
    const found = [
      ...(yield* leasesIn(own.places)).map((lease) => ({ lease, reported: undefined })),
      ...told.places.map(({ lease, place: reportedAs }) => ({ lease, reported: reportedAs })),
    ].sort(
      (a, b) =>
        a.lease.grantedAt - b.lease.grantedAt || Number(a.reported !== undefined) - Number(b.reported !== undefined),
    );
    // Of one of them there may be more between those that were read of the other.
    const ends = [
      own.isAll ? Infinity : (own.places.at(-1)?.grantedAt ?? -1),
      told.isAll ? Infinity : (told.places.at(-1)?.place.grantedAt ?? -1),
    ];
    for (const { lease, reported: reportedAs } of found) {
      if (lease.grantedAt > Math.min(...ends)) break;
      const isWanted = wasHad(lease, of);
      if (isWanted && items.length === limit) return { items, next: next() };
      if (isWanted) items.push(lease);
      if (reportedAs) reportedPlace = reportedAs;
      else place = lease;
    }
    if (own.isAll && told.isAll) return { items, next: null };
    // A part that found nothing in range has looked at something all the same.
    looked += found.length + parts.length + reportedParts.length;
  }
  return { items, next: next() };
}

function* nextReported(parts: readonly ReportedPart[], after: ReportedPlace, limit: number) {
  const places = [];
  let isAll = true;
  for (const part of parts) {
    const found = yield* part(after, limit);
    places.push(...found);
    isAll &&= found.length < limit;
  }
  places.sort(
    ({ place: a }, { place: b }) => a.grantedAt - b.grantedAt || a.incarnation - b.incarnation || a.id - b.id,
  );
  return { places: places.slice(0, limit), isAll: isAll && places.length <= limit };
}

function* reportedPartsOfPort(of: Extract<UsesFilter, { port: number }>): Read<readonly ReportedPart[]> {
  const { address, port, since, until } = of;
  const anywhere = listOf('first', firstsOf(port));
  const tenures = yield* all<{ slice: number; generation: number; lowest: number }>(
    `SELECT slice, generation, first_port AS lowest FROM tenures
     WHERE address = @address AND first_port IN (${anywhere.names.join(', ')}) AND allocator = 'machine'
     AND last_port >= @port AND from_at < @until AND (until_at IS NULL OR until_at > @since)`,
    { address, port, since, until, ...anywhere.values },
  );
  return yield* reportedOfPort(
    { port, since, until, protocols: of.protocol === null ? protocols : [of.protocol] },
    tenures,
  );
}

/** The next `limit` places of all parts together, and whether these are all there are. */
function* nextOf(parts: readonly Part[], after: Place, limit: number) {
  const places: Place[] = [];
  let isAll = true;
  for (const part of parts) {
    const found = yield* part(after, limit);
    places.push(...found);
    isAll &&= found.length < limit;
  }
  places.sort(byGrant);
  return { places: places.slice(0, limit), isAll: isAll && places.length <= limit };
}

/** The leases at these places, in their order. Lists come in few lengths, so that statements do too. */
function* leasesIn(places: readonly Place[]): Read<readonly Lease[]> {
  if (places.length === 0) return [];
  const leaseOf = yield* leaseReader();
  const ids = places.map(({ id }) => id);
  const length = 2 ** ceilLog2(ids.length);
  const { names, values } = listOf('id', [...ids, ...Array<number>(length - ids.length).fill(ids[0] ?? 0)]);
  const found = yield* all<LeaseAndSession>(`${leaseSelect} WHERE leases.id IN (${names.join(', ')})`, values);
  return found.map(leaseOf).sort(byGrant);
}

function wasHad(lease: Lease, of: UsesFilter): boolean {
  const isTheirs =
    'holder' in of ? lease.holder === of.holder : lease.ports.first <= of.port && of.port <= lease.ports.last;
  const isThen = lease.grantedAt < of.until && (lease.emptyAt === null || lease.emptyAt > of.since);
  return isTheirs && isThen && lease.state !== 'refused';
}

export function* machineAllocated(of: UsesFilter, limit: number): Read<readonly Tenure[]> {
  const { since, until } = of;
  const { names, values } = listOf('first', 'port' in of ? firstsOf(of.port) : []);
  const here =
    'port' in of ? `address = @address AND first_port IN (${names.join(', ')}) AND last_port >= @port` : onIt;
  const subject = 'port' in of ? { address: of.address, port: of.port, ...values } : { machine: of.machine };
  const found = yield* all<rows.TenureRow>(
    `SELECT * FROM tenures WHERE ${here} AND allocator = 'machine' AND from_at < @until
     AND (until_at IS NULL OR until_at > @since) ORDER BY from_at DESC, slice LIMIT @limit`,
    { ...subject, since, until, limit },
  );
  return found.map(rows.tenureOf);
}

const onIt = 'machine = @machine';

/** Leases overlap in time, so those that were there at `since` are looked for class by class of how long they lasted. */
function partsOfHolder({ machine, holder, since, until }: Extract<UsesFilter, { holder: string }>): readonly Part[] {
  const over = [...spanBounds_us, Infinity].map((bound, index): Part => {
    return function* (after, limit) {
      const found = yield* all<PlaceRow>(
        `SELECT granted_at, id FROM leases WHERE machine = @machine AND holder = @holder AND ${span} = @span
         AND ended_at > @since AND granted_at > @after AND granted_at < @until ORDER BY granted_at LIMIT @limit`,
        {
          ...{ machine, holder, span: index, since, until, limit },
          after: Math.max(after.grantedAt, bound === Infinity ? -1 : since - bound - 1),
        },
      );
      return found.map(placeOf);
    };
  });
  return [...over, liveOn(machine, until)];
}

/** Live leases of a machine; whose they are no index knows, so that grants need not keep one more. */
const liveOn = (machine: string, until: number): Part =>
  function* (after, limit) {
    const found = yield* all<PlaceRow>(
      `SELECT granted_at, id FROM leases WHERE machine = @machine AND ended_at IS NULL AND id > @after
       AND granted_at < @until ORDER BY id LIMIT @limit`,
      { machine, until, after: after.id, limit },
    );
    return found.map(placeOf);
  };

function* partsOfPort(of: Extract<UsesFilter, { port: number }>): Read<readonly Part[]> {
  const { address, port, since, until } = of;
  const anywhere = listOf('first', firstsOf(port));
  const slices = yield* all<{ slice: number; lowest: number }>(
    `SELECT DISTINCT slice, first_port AS lowest FROM tenures
     WHERE address = @address AND first_port IN (${anywhere.names.join(', ')})
     AND last_port >= @port AND from_at < @until AND (until_at IS NULL OR until_at > @since)`,
    { address, port, since, until, ...anywhere.values },
  );
  const parts: Part[] = [];
  for (const { slice, lowest } of slices)
    for (const protocol of of.protocol === null ? protocols : [of.protocol]) {
      const { names, values } = listOf('first', firstsOf(port, lowest));
      const found = yield* all<{ first_port: number; name: string }>(
        `WITH RECURSIVE ${partiesOf(names)} SELECT * FROM parties WHERE name IS NOT NULL`,
        { slice, protocol, ...values },
      );
      const where = { slice, protocol, since, until };
      parts.push(liveIn(where, names, values), ...found.map(({ first_port, name }) => overIn(where, first_port, name)));
    }
  return parts;
}

type Block = Readonly<{ slice: number; protocol: Protocol; since: number; until: number }>;

const liveIn = ({ slice, protocol, until }: Block, names: readonly string[], values: Parameters): Part =>
  function* (after, limit) {
    const found = yield* all<PlaceRow>(
      `SELECT granted_at, id FROM leases WHERE slice = @slice AND protocol = @protocol AND ended_at IS NULL
       AND first_port IN (${names.join(', ')}) AND id > @after AND granted_at < @until ORDER BY id LIMIT @limit`,
      { slice, protocol, until, after: after.id, limit, ...values },
    );
    return found.map(placeOf);
  };

/** The leases of one party follow one another: by their ends is by their grants. */
const overIn = ({ slice, protocol, since, until }: Block, first: number, name: string): Part =>
  function* (after, limit) {
    const found = yield* all<PlaceRow>(
      `SELECT granted_at, id FROM leases WHERE ${past} AND first_port = @first AND ${party} = @name
       AND ended_at > @since AND id > @after ORDER BY ended_at LIMIT @limit`,
      { slice, protocol, first, name, since: Math.max(since, after.grantedAt), after: after.id, limit },
    );
    return found.map(placeOf).filter(({ grantedAt }) => grantedAt < until);
  };
