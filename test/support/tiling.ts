import { tenureKey, type Event } from '../../src/leases/model.ts';
import {
  beginsEpoch,
  endedBy,
  flawsOfLease,
  flawsOfMembership,
  flawsOfParty,
  isAsTold,
  type Told,
} from '../../src/db/check/row-flaws.ts';
import { flawsOfReported } from '../../src/db/check/reported-flaws.ts';
import { flawsOfSlice } from '../../src/db/check/slice-flaws.ts';
import type { Tables } from './memory-store.ts';

const isLive = (state: string): boolean => ['pending', 'active', 'ending', 'cooling'].includes(state);

/**
 * What must hold of the table at any time, by what `fishery check` checks a database with; nothing there comes from the
 * engine. Small tables, held in memory: every row is compared with every other.
 */
export function flawsOf(
  tables: Tables,
  events: readonly Event[],
  historySince: number | null = null,
  logFrom = 1,
): readonly string[] {
  const slices = [...tables.slices.values()];
  const of = <Row extends { slice: number }>(rows: Iterable<Row>, id: number) =>
    [...rows].filter(({ slice }) => slice === id);
  const ownOf = (id: string) =>
    slices.filter(({ machine, allocator }) => machine === id && allocator === 'machine').length;
  return [
    ...slices.flatMap((slice) =>
      flawsOfSlice({
        slice,
        extents: of(tables.extents.values(), slice.id),
        leases: of(tables.leases.values(), slice.id).filter(({ state }) => isLive(state)),
        blocks: of(tables.blocks.values(), slice.id),
        tenures: of(tables.tenures.values(), slice.id),
        historySince,
        logFrom,
      }),
    ),
    ...slices.flatMap((a) =>
      slices
        .filter(
          (b) =>
            a.id < b.id &&
            a.machine !== null &&
            b.machine !== null &&
            a.address === b.address &&
            a.ports.first <= b.ports.last &&
            b.ports.first <= a.ports.last,
        )
        .map((b) => `slice-${a.id} and slice-${b.id} overlap`),
    ),
    ...[...tables.leases.values()].flatMap((lease) => [
      ...flawsOfLease(lease),
      ...flawsOfMembership(lease, tables.sessions.get(lease.session ?? 0)),
    ]),
    ...[...tables.reportedLeases.values()].flatMap((lease) =>
      flawsOfReported(
        lease,
        tables.brokers.get(lease.machine),
        tables.tenures.get(tenureKey(lease.slice, lease.generation)),
        historySince,
      ),
    ),
    ...[...tables.machines.values()]
      .filter(({ id, ownSlices }) => ownOf(id) !== ownSlices)
      .map(({ id, ownSlices }) => `machine ${id} grants in ${ownSlices} slices itself, it is said`),
    ...flawsOfParties(tables),
    ...flawsOfLog(events),
    ...flawsOfRows(tables, events, historySince),
  ];
}

function flawsOfParties(tables: Tables): readonly string[] {
  const known = new Set(tables.holders.keys());
  return [
    ...[...tables.sessions.values()].flatMap((session) =>
      session.state === 'live' ? flawsOfParty(`session-${session.id}`, session, known) : [],
    ),
    ...[...tables.leases.values()].flatMap((lease) =>
      isLive(lease.state) && lease.state !== 'cooling' ? flawsOfParty(`lease-${lease.id}`, lease, known) : [],
    ),
    ...[...tables.accessTokens.values()].flatMap(({ id, machine, holder, revokedAt }) =>
      machine !== null && holder !== null && revokedAt === null
        ? flawsOfParty(`token-${id}`, { machine, holder }, known)
        : [],
    ),
  ];
}

/** Each row is as its last event left it. */
function flawsOfRows(tables: Tables, events: readonly Event[], historySince: number | null): readonly string[] {
  const told: Told[] = [
    ...[...tables.pools.values()].map((row): Told => ({ kind: 'pool', row })),
    ...[...tables.machines.values()].map((row): Told => ({ kind: 'machine', row })),
    ...[...tables.holders.values()].map((row): Told => ({ kind: 'holder', row })),
    ...[...tables.routers.values()].map((row): Told => ({ kind: 'router', row })),
    ...[...tables.slices.values()].map((row): Told => ({ kind: 'slice', row })),
    ...[...tables.revocations.values()].map((row): Told => ({ kind: 'revocation', row })),
    ...[...tables.sessions.values()].map((row): Told => ({ kind: 'session', row })),
    ...[...tables.epochs.values()]
      .filter(({ cause }) => cause !== 'first')
      .map((row): Told => ({ kind: 'epoch', row })),
    ...[...tables.leases.values()].map((row): Told => ({
      kind: 'lease',
      row,
      session: tables.sessions.get(row.session ?? 0),
      ended: endedBy(
        [...tables.revocations.values()].find(({ endedAt }) => endedAt !== null && endedAt === row.endingAt),
        row.endingAt,
        historySince,
      ),
    })),
  ];
  const byRevision = new Map(events.map((event) => [event.revision, event]));
  return told.flatMap((one) => {
    const event = byRevision.get(one.row.revision);
    return event && isAsTold(one, event) ? [] : [`a ${one.kind} is not as revision ${one.row.revision} says`];
  });
}

function flawsOfLog(events: readonly Event[]): readonly string[] {
  const flaws: string[] = [];
  for (const [index, event] of events.entries()) {
    const previous = events[index - 1];
    if (event.revision !== (previous?.revision ?? 0) + 1 && !beginsEpoch(event, previous?.revision ?? 0))
      flaws.push(`revision ${event.revision} follows a gap`);
    if (previous && event.at <= previous.at) flaws.push(`revision ${event.revision} goes back in time`);
  }
  return flaws;
}
