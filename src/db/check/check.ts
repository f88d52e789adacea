import { addressKey, type Address } from '../../net/address.ts';
import type { Epoch, Event, Revocation, Session } from '../../leases/model.ts';
import type { UsageRow } from '../../leases/store.ts';
import type { HeldPorts } from '../../leases/changes.ts';
import { historySince } from '../history.ts';
import * as rows from '../rows.ts';
import type { Snapshot } from '../snapshot.ts';
import { heldSql, usageSql } from '../usage.ts';
import { all, type Read } from '../statement.ts';
import { checkAudit } from './audit-flaws.ts';
import { checkReported } from './reported-flaws.ts';
import {
  beginsEpoch,
  endedBy,
  flawsOfLease,
  flawsOfIdentities,
  flawsOfMembership,
  flawsOfParty,
  isAsTold,
  type HolderIdentity,
  type Told,
} from './row-flaws.ts';
import { flawsOfSlice } from './slice-flaws.ts';

/** What a check came to. `flaws` has the first of them, `flawCount` counts all. */
export type CheckReport = Readonly<{
  revision: number;
  counts: Readonly<{ slices: number; leases: number; sessions: number; events: number }>;
  flaws: readonly string[];
  flawCount: number;
}>;

const flaws_kept_max = 1_000;
const slices_per_step = 64;
const rows_per_step = 2_000;

/**
 * Proves a whole database, in one state of it and in bounded steps: slices are disjoint and each is tiled, every row agrees
 * with those that it refers to and with what the log told of it, and the log has no gap. By nothing of the engine.
 */
export async function check(snapshot: Snapshot): Promise<CheckReport> {
  const flaws: string[] = [];
  let flawCount = 0;
  const note = (found: readonly string[]) => {
    flawCount += found.length;
    flaws.push(...found.slice(0, flaws_kept_max - flaws.length));
  };
  note(await snapshot.damage());
  // What is read from a damaged file would say nothing more.
  if (flawCount > 0) return { revision: 0, counts: { slices: 0, leases: 0, sessions: 0, events: 0 }, flaws, flawCount };
  const { revision, oldest, count: events } = await snapshot.run(checkLog(note));
  const since = await snapshot.run(historySince());
  const slices = await snapshot.run(checkSlices(note, oldest, since));
  await snapshot.run(checkPlaces(note));
  const holders = await snapshot.run(checkTokens(note));
  const leases = await snapshot.run(checkLeases(note, oldest, since, holders));
  const sessions = await snapshot.run(checkSessions(note, oldest, holders));
  await snapshot.run(checkFew(note, oldest));
  await snapshot.run(checkAudit(note, revision));
  await snapshot.run(checkReported(note, since));
  await snapshot.run(checkCounts(note));
  await snapshot.run(checkHeld(note));
  return { revision, counts: { slices, leases, sessions, events }, flaws, flawCount };
}

type Note = (flaws: readonly string[]) => void;

/** Revisions follow one another without a gap, from the oldest that was kept to the newest, and so does time. */
function* checkLog(note: Note): Read<{ revision: number; oldest: number; count: number }> {
  let previous: Event | undefined;
  let oldest = 1;
  let count = 0;
  for (;;) {
    const page: readonly rows.EventRow[] = yield* all<rows.EventRow>(
      'SELECT * FROM events WHERE revision > @after ORDER BY revision LIMIT @limit',
      { after: previous?.revision ?? -1, limit: rows_per_step },
    );
    for (const event of page.map(rows.eventOf)) {
      if (!previous) oldest = event.revision;
      else if (event.revision !== previous.revision + 1 && !beginsEpoch(event, previous.revision))
        note([`revision ${event.revision} follows a gap`]);
      if (previous && event.at <= previous.at) note([`revision ${event.revision} goes back in time`]);
      previous = event;
    }
    count += page.length;
    if (page.length < rows_per_step) return { revision: previous?.revision ?? 0, oldest, count };
  }
}

/** The counts of ports that are kept are what counting them comes to. */
function* checkCounts(note: Note): Read<void> {
  const kept = yield* all<UsageRow>('SELECT * FROM port_counts WHERE ports <> 0');
  const counted = yield* all<UsageRow>(usageSql);
  const keyOf = ({ pool, machine, family, protocol, state }: UsageRow) =>
    `${pool}/${machine}/${family}/${protocol}/${state}`;
  const ports = new Map(kept.map((row) => [keyOf(row), row.ports]));
  for (const row of counted) {
    const key = keyOf(row);
    if (row.ports !== ports.get(key)) note([`${key}: ${row.ports} ports, kept as ${ports.get(key) ?? 0}`]);
    ports.delete(key);
  }
  for (const [key, kept] of ports) note([`${key}: no ports, kept as ${kept}`]);
}

/** What holders have is kept truly, on machines where it is, and so is on which; so are slices that machines grant in. */
function* checkHeld(note: Note): Read<void> {
  const machines = yield* all<{ id: string; kept: number; counted: number }>(
    `SELECT id, limited_holders AS kept, (
       SELECT count(*) FROM holders WHERE holders.machine = machines.id AND limits IS NOT NULL) AS counted FROM machines`,
  );
  for (const { id, kept, counted } of machines)
    if (kept !== counted) note([`machine ${id} has ${counted} limited holders, kept as ${kept}`]);
  const owners = yield* all<{ id: string; kept: number; counted: number }>(
    `SELECT id, own_slices AS kept, (
       SELECT count(*) FROM slices WHERE machine = machines.id AND allocator = 'machine') AS counted FROM machines`,
  );
  for (const { id, kept, counted } of owners)
    if (kept !== counted) note([`machine ${id} grants in ${counted} slices itself, kept as ${kept}`]);
  const kept = yield* all<HeldPorts>(
    `SELECT * FROM held_ports WHERE ports <> 0 AND machine IN (SELECT id FROM machines WHERE limited_holders > 0)`,
  );
  const keyOf = ({ machine, holder, protocol }: HeldPorts) => `${machine}/${holder}/${protocol}`;
  const ports = new Map(kept.map((row) => [keyOf(row), row.ports]));
  for (const row of yield* all<HeldPorts>(heldSql)) {
    const key = keyOf(row);
    if (row.ports !== ports.get(key)) note([`${key} has ${row.ports} ports, kept as ${ports.get(key) ?? 0}`]);
    ports.delete(key);
  }
  for (const [key, count] of ports) note([`${key} has no ports, kept as ${count}`]);
}

/** Slice by slice, all of each: some at once, with every row between the first and the last of them. */
function* checkSlices(note: Note, oldest: number, since: number | null): Read<number> {
  let after = -1;
  let count = 0;
  const [first] = yield* all<{ from: number | null }>('SELECT min(from_revision) AS "from" FROM epochs');
  const logFrom = first?.from ?? 1;
  for (let isLast = false; !isLast;) {
    const found: readonly rows.SliceRow[] = yield* all<rows.SliceRow>(
      'SELECT * FROM slices WHERE id > @after ORDER BY id LIMIT @limit',
      { after, limit: slices_per_step },
    );
    isLast = found.length < slices_per_step;
    const through = isLast ? Number.MAX_SAFE_INTEGER : (found.at(-1)?.id ?? after);
    const part = { after, through };
    const within = (column: string) => `${column} > @after AND ${column} <= @through`;
    const extents = yield* all<rows.ExtentRow>(`SELECT * FROM extents WHERE ${within('slice')}`, part);
    const blocks = yield* all<rows.SharedBlockRow>(`SELECT * FROM shared_blocks WHERE ${within('slice')}`, part);
    const tenures = yield* all<rows.TenureRow>(`SELECT * FROM tenures WHERE ${within('slice')}`, part);
    const leases = yield* all<rows.LeaseRow>(
      `SELECT * FROM leases WHERE ${within('slice')} AND ended_at IS NULL`,
      part,
    );
    const bySlice = {
      extents: Map.groupBy(extents.map(rows.extentOf), ({ slice }) => slice),
      blocks: Map.groupBy(blocks.map(rows.sharedBlockOf), ({ slice }) => slice),
      tenures: Map.groupBy(tenures.map(rows.tenureOf), ({ slice }) => slice),
      leases: Map.groupBy(leases.map(rows.leaseOf), ({ slice }) => slice),
    };
    const slices = found.map(rows.sliceOf);
    const astray = found.filter((row) => row.address_key !== addressKey(row.address as Address));
    note(astray.map(({ id }) => `slice-${id} is filed under another address`));
    for (const slice of slices) {
      const of = <Row>(map: Map<number, Row[]>) => map.get(slice.id) ?? [];
      note(
        flawsOfSlice({
          slice,
          ...{ extents: of(bySlice.extents), leases: of(bySlice.leases) },
          ...{ blocks: of(bySlice.blocks), tenures: of(bySlice.tenures), historySince: since, logFrom },
        }),
      );
    }
    yield* compareWithLog(
      note,
      oldest,
      'slices',
      slices.map((row) => ({ kind: 'slice', row })),
      part,
    );
    const known = new Set(found.map(({ id }) => id));
    // A slice may be gone; who had it stays known.
    const present = { ...bySlice, tenures: Map.groupBy(tenures.filter(isLasting), ({ slice }) => slice) };
    for (const [kind, map] of Object.entries(present))
      note([...map.keys()].filter((id) => !known.has(id)).map((id) => `${kind} of slice-${id}, which there is not`));
    count += found.length;
    after = through;
  }
  return count;
}

const isLasting = (tenure: rows.TenureRow): boolean => tenure.until_at === null;

/** No two slices that machines have share a port of an address; they come in the order of their places. */
function* checkPlaces(note: Note): Read<void> {
  let [key, port]: [string, number] = ['', -1];
  let last: rows.SliceRow | undefined;
  for (let isLast = false; !isLast;) {
    const found: readonly rows.SliceRow[] = yield* all<rows.SliceRow>(
      `SELECT * FROM slices WHERE machine IS NOT NULL AND (address_key, first_port) > (@key, @port)
       ORDER BY address_key, first_port LIMIT @limit`,
      { key, port, limit: rows_per_step },
    );
    for (const row of found) {
      const overlaps = last?.address === row.address && last.last_port >= row.first_port;
      if (overlaps) note([`slice-${row.id} and slice-${last?.id} overlap`]);
      if (!overlaps || row.last_port > (last?.last_port ?? 0)) last = row;
      [key, port] = [row.address_key, row.first_port];
    }
    isLast = found.length < rows_per_step;
  }
}

/** The guards can tell the holders apart, and nobody gets in as one that there is not. All holders, as they are few, by machine and name. */
function* checkTokens(note: Note): Read<ReadonlySet<string>> {
  const found = yield* all<HolderIdentity>('SELECT machine, name, uid, cgroup FROM holders ORDER BY machine, name');
  note(flawsOfIdentities(found));
  const holders = new Set(found.map(({ machine, name }) => `${machine}/${name}`));
  for (const { id, ...of } of yield* all<{ id: number; machine: string; holder: string }>(
    'SELECT id, machine, holder FROM access_tokens WHERE holder IS NOT NULL AND revoked_at IS NULL',
  ))
    note(flawsOfParty(`token-${id}`, of, holders));
  return holders;
}

/** Somebody may be on the ports of a lease that is in one of these. */
const holds: ReadonlySet<string> = new Set(['pending', 'active', 'ending']);

type LeaseRow = rows.LeaseRow &
  Readonly<{ tenure_machine: string | null; tenure_from: number | null; tenure_until: number | null }>;

/** Every lease that there ever was: by itself, within its session and its machine's tenure of the slice, as it was told. */
function* checkLeases(note: Note, oldest: number, since: number | null, holders: ReadonlySet<string>): Read<number> {
  let after = -1;
  let count = 0;
  for (let isLast = false; !isLast;) {
    const found: readonly LeaseRow[] = yield* all<LeaseRow>(
      `SELECT leases.*, tenures.machine AS tenure_machine, tenures.from_at AS tenure_from, tenures.until_at AS tenure_until
       FROM leases LEFT JOIN tenures ON tenures.slice = leases.slice AND tenures.generation = leases.generation
       WHERE leases.id > @after ORDER BY leases.id LIMIT @limit`,
      { after, limit: rows_per_step },
    );
    isLast = found.length < rows_per_step;
    const through = found.at(-1)?.id ?? after;
    const sessions = yield* all<rows.SessionRow>(
      `SELECT * FROM sessions WHERE id IN (SELECT session FROM leases WHERE id > @after AND id <= @through)`,
      { after, through },
    );
    const revocations = yield* all<rows.RevocationRow>(
      `SELECT * FROM revocations WHERE ended_at IN (
         SELECT ending_at FROM leases WHERE id > @after AND id <= @through AND state = 'ending')`,
      { after, through },
    );
    const byEnd = new Map<number | null, Revocation>(revocations.map((row) => [row.ended_at, rows.revocationOf(row)]));
    const byId = new Map<number, Session>(sessions.map((row) => [row.id, rows.sessionOf(row)]));
    const told: Told[] = [];
    for (const row of found) {
      const lease = rows.leaseOf(row);
      const session = byId.get(lease.session ?? 0);
      note([...flawsOfLease(lease), ...flawsOfMembership(lease, session), ...flawsOfTenure(row)]);
      if (holds.has(lease.state)) note(flawsOfParty(`lease-${lease.id}`, lease, holders));
      told.push({
        kind: 'lease',
        row: lease,
        session,
        ended: endedBy(byEnd.get(lease.endingAt), lease.endingAt, since),
      });
    }
    yield* compareWithLog(note, oldest, 'leases', told, { after, through });
    count += found.length;
    after = through;
  }
  return count;
}

/** Attribution rests on it: whoever had the port, its machine had the slice. */
function flawsOfTenure({ id, machine, granted_at: from, empty_at: until, ...row }: LeaseRow): readonly string[] {
  if (row.tenure_machine === null || row.tenure_from === null) return [`lease-${id} is in a slice that nobody had`];
  const isWithin = from >= row.tenure_from && (row.tenure_until === null || (until ?? from) <= row.tenure_until);
  return isWithin && row.tenure_machine === machine ? [] : [`lease-${id} is outside of its machine's tenure`];
}

function* checkSessions(note: Note, oldest: number, holders: ReadonlySet<string>): Read<number> {
  let after = -1;
  let count = 0;
  for (let isLast = false; !isLast;) {
    const found: readonly rows.SessionRow[] = yield* all<rows.SessionRow>(
      'SELECT * FROM sessions WHERE id > @after ORDER BY id LIMIT @limit',
      { after, limit: rows_per_step },
    );
    isLast = found.length < rows_per_step;
    const through = found.at(-1)?.id ?? after;
    const told = found.map((row): Told => ({ kind: 'session', row: rows.sessionOf(row) }));
    for (const session of found)
      if (session.state === 'live') note(flawsOfParty(`session-${session.id}`, session, holders));
    yield* compareWithLog(note, oldest, 'sessions', told, { after, through });
    count += found.length;
    after = through;
  }
  return count;
}

/** Pools, machines, holders, routers, revocations and epochs, of which there are as many as an operator makes. */
function* checkFew(note: Note, oldest: number): Read<void> {
  const pools = (yield* all<rows.PoolRow>('SELECT * FROM pools')).map(rows.poolOf);
  const machines = (yield* all<rows.MachineRow>('SELECT * FROM machines')).map(rows.machineOf);
  const revocations = (yield* all<rows.RevocationRow>('SELECT * FROM revocations')).map(rows.revocationOf);
  const holders = (yield* all<rows.HolderRow>('SELECT * FROM holders')).map(rows.holderOf);
  const routers = (yield* all<rows.RouterRow>('SELECT * FROM routers')).map(rows.routerOf);
  yield* compareWithLog(
    note,
    oldest,
    'pools',
    pools.map((row) => ({ kind: 'pool', row })),
  );
  yield* compareWithLog(
    note,
    oldest,
    'machines',
    machines.map((row) => ({ kind: 'machine', row })),
  );
  yield* compareWithLog(
    note,
    oldest,
    'revocations',
    revocations.map((row) => ({ kind: 'revocation', row })),
  );
  yield* compareWithLog(
    note,
    oldest,
    'holders',
    holders.map((row) => ({ kind: 'holder', row })),
  );
  yield* compareWithLog(
    note,
    oldest,
    'routers',
    routers.map((row) => ({ kind: 'router', row })),
  );
  const epochs = (yield* all<rows.EpochRow>('SELECT * FROM epochs ORDER BY number')).map(rows.epochOf);
  note(epochs.flatMap(flawsOfEpoch));
  yield* compareWithLog(
    note,
    oldest,
    'epochs',
    // The first was there before the log.
    epochs.filter(({ cause }) => cause !== 'first').map((row) => ({ kind: 'epoch', row })),
  );
}

/** They follow one another, each above where the log ended before. */
function flawsOfEpoch(epoch: Epoch, index: number, all: readonly Epoch[]): readonly string[] {
  const next = all[index + 1];
  const flaws: string[] = [];
  if (index === 0 && epoch.cause !== 'first') flaws.push('the first epoch is missing');
  if (next && (next.after < epoch.from - 1 || next.from <= next.after))
    flaws.push(`epoch ${next.number} begins inside of epoch ${epoch.number}`);
  return flaws;
}

/** Which rows of a table are looked at: those with an id above `after`, through `through`. All, when not given. */
type Part = Readonly<{ after: number; through: number }>;

/** Each row beside the event of its revision, as far back as the log goes. */
function* compareWithLog(note: Note, oldest: number, table: string, told: readonly Told[], part?: Part): Read<void> {
  const where = part ? 'WHERE t.id > @after AND t.id <= @through' : '';
  const found = yield* all<rows.EventRow>(
    `SELECT events.* FROM ${table} AS t JOIN events ON events.revision = t.revision ${where}`,
    part ?? {},
  );
  const events = new Map(found.map((row) => [row.revision, rows.eventOf(row)]));
  for (const one of told) {
    if (one.row.revision < oldest) continue;
    const event = events.get(one.row.revision);
    if (!event || !isAsTold(one, event)) note([`${nameOf(one)} is not as revision ${one.row.revision} says`]);
  }
}

function nameOf({ kind, row }: Told): string {
  if (kind === 'epoch') return `epoch ${row.number}`;
  return 'id' in row ? `${kind}-${row.id}` : `${kind} ${row.machine}/${row.name}`;
}
