import { isDeepStrictEqual } from 'node:util';
import type { Event, Extent, Lease, SharedBlock, Slice } from '../../src/leases/model.ts';
import type { Tables } from './memory-store.ts';

/**
 * What must hold of the table at any time, checked the slow way: port by port, row against row. Nothing here comes from
 * the engine, so that a mistake of its arithmetic is not made a second time.
 */
export function flawsOf(tables: Tables, events: readonly Event[]): readonly string[] {
  const slices = [...tables.slices.values()];
  return [
    ...slices.flatMap((slice) => flawsOfSlice(tables, slice)),
    ...flawsBetweenSlices(slices),
    ...slices.flatMap((slice) => flawsOfTenures(tables, slice)),
    ...[...tables.leases.values()].flatMap(flawsOfLease),
    ...flawsOfHolders(tables),
    ...flawsOfLog(events),
    ...flawsOfRows(tables, events),
  ];
}

/** On the host, holders are told apart by their user ids. */
function flawsOfHolders(tables: Tables): readonly string[] {
  const users = [...tables.holders.values()].flatMap(({ machine, uid }) => (uid === null ? [] : `${machine}: ${uid}`));
  return users
    .filter((user, index) => users.indexOf(user) !== index)
    .map((user) => `two holders have one uid, ${user}`);
}

/** The log tells of every change but those that follow by themselves: each row is as its last event left it. */
function flawsOfRows(tables: Tables, events: readonly Event[]): readonly string[] {
  const flaws: string[] = [];
  const check = (name: string, revision: number, row: unknown, told: (event: Event) => unknown) => {
    const event = events[revision - 1];
    if (!event || !isDeepStrictEqual(told(event), row)) flaws.push(`${name} is not as revision ${revision} says`);
  };
  for (const slice of tables.slices.values())
    check(`slice-${slice.id}`, slice.revision, slice, (event) => event.kind === 'slice' && event.slice);
  for (const session of tables.sessions.values())
    check(`session-${session.id}`, session.revision, session, (event) => {
      // Being kept alive and being settled are nobody's news.
      const { expiresAt, settled } = session;
      return event.kind === 'session' && { ...event.session, expiresAt, settled };
    });
  for (const lease of tables.leases.values())
    check(`lease-${lease.id}`, lease.revision, lease, (event) => {
      if (event.kind !== 'lease') return false;
      const session = tables.sessions.get(lease.session ?? 0);
      const isSettled = lease.state === 'ending' && session?.state === 'ended' && event.lease.ending === null;
      const isRested = lease.state === 'ended' && event.lease.state === 'cooling';
      const { state, ending, endingAt, endedAt } = lease;
      if (isSettled) return { ...event.lease, state, ending, endingAt };
      return isRested ? { ...event.lease, state, endedAt } : event.lease;
    });
  return flaws;
}

const isLive = (lease: Lease): boolean => ['pending', 'active', 'ending', 'cooling'].includes(lease.state);
const occupies = (lease: Lease): boolean => ['pending', 'active', 'ending'].includes(lease.state);

function flawsOfSlice(tables: Tables, slice: Slice): readonly string[] {
  const flaws: string[] = [];
  const extents = [...tables.extents.values()].filter((extent) => extent.slice === slice.id);
  const leases = [...tables.leases.values()].filter((lease) => lease.slice === slice.id && isLive(lease));
  const blocks = [...tables.blocks.values()].filter((block) => block.slice === slice.id);
  const name = `slice-${slice.id}`;
  if (slice.state === 'free') {
    if (extents.length + leases.length + blocks.length > 0) flaws.push(`${name} is free and has extents or leases`);
    if (slice.machine !== null) flaws.push(`${name} is free and has a machine`);
    return flaws;
  }
  for (const row of [...extents, ...leases, ...blocks])
    if (row.machine !== slice.machine) flaws.push(`${name}: a row of it is on machine ${row.machine}`);
  for (const lease of leases) {
    if (lease.generation !== slice.generation) flaws.push(`lease-${lease.id} is of generation ${lease.generation}`);
    if (lease.address !== slice.address) flaws.push(`lease-${lease.id} has another address than its slice`);
  }
  for (const protocol of ['tcp', 'udp', 'icmp'] as const) {
    const here = <Row extends { protocol: string }>(rows: readonly Row[]) =>
      rows.filter((row) => row.protocol === protocol);
    const owners = new Map<number, string[]>();
    const own = (ports: { first: number; last: number }, owner: string) => {
      for (let port = ports.first; port <= ports.last; port++) owners.set(port, [...(owners.get(port) ?? []), owner]);
    };
    for (const extent of here(extents)) own(extent.ports, `${extent.state} extent`);
    for (const block of here(blocks)) own(block.ports, 'shared block');
    for (const lease of here(leases))
      if (lease.mode === 'exclusive' || lease.state === 'cooling') own(lease.ports, `lease-${lease.id}`);
    for (let port = slice.ports.first; port <= slice.ports.last; port++) {
      const found = owners.get(port) ?? [];
      if (found.length !== 1)
        flaws.push(`${name} ${protocol} port ${port} belongs to: ${found.join(' and ') || 'nobody'}`);
      owners.delete(port);
    }
    if (owners.size > 0) flaws.push(`${name} ${protocol}: ports outside of it are owned`);
    flaws.push(...here(extents).flatMap((extent) => flawsOfExtent(slice, extent, here(extents))));
    flaws.push(...here(blocks).flatMap((block) => flawsOfBlock(slice, block, here(leases))));
    for (const lease of here(leases))
      if (lease.mode === 'shared' && occupies(lease) && !here(blocks).some((block) => samePorts(block, lease)))
        flaws.push(`lease-${lease.id} is shared and in no block`);
  }
  return flaws;
}

const samePorts = (a: Pick<SharedBlock, 'ports'>, b: Pick<Lease, 'ports'>): boolean =>
  a.ports.first === b.ports.first && a.ports.last === b.ports.last;

function flawsOfExtent(slice: Slice, extent: Extent, all: readonly Extent[]): readonly string[] {
  const flaws: string[] = [];
  const { first, last } = extent.ports;
  const name = `${extent.state} extent ${first}-${last}/${extent.protocol} of slice-${slice.id}`;
  const isOffered = extent.state === 'free' && slice.state === 'assigned' && slice.allocator === 'server';
  if (extent.offered !== isOffered) flaws.push(`${name} is ${isOffered ? 'not ' : ''}offered`);
  let fit = 0;
  for (let start = first; start <= last; start++)
    for (let order = 16; order > fit; order--)
      if (start % 2 ** order === 0 && start + 2 ** order - 1 <= last) fit = order;
  if (extent.state === 'free' && extent.fit !== fit) flaws.push(`${name} says that it fits ${extent.fit}, not ${fit}`);
  if (extent.state === 'free' && all.some((other) => other.state === 'free' && other.ports.first === last + 1))
    flaws.push(`${name} touches another free one`);
  if ((extent.state === 'cooling') !== (extent.reusableAt !== null)) flaws.push(`${name} has an odd time of reuse`);
  if ((extent.state === 'blocked') !== (extent.blocked !== null)) flaws.push(`${name} has an odd reason`);
  return flaws;
}

function flawsOfBlock(slice: Slice, block: SharedBlock, leases: readonly Lease[]): readonly string[] {
  const flaws: string[] = [];
  const members = leases.filter((lease) => lease.mode === 'shared' && occupies(lease) && samePorts(block, lease));
  const name = `shared block ${block.ports.first} of slice-${slice.id}`;
  if (members.length !== block.members || members.length === 0)
    flaws.push(`${name} counts ${block.members} members, not ${members.length}`);
  if (members.some((lease) => lease.binding !== block.binding)) flaws.push(`${name} has members of several bindings`);
  if (new Set(members.map((lease) => lease.holder)).size !== members.length) flaws.push(`${name} has a holder twice`);
  const isOffered = slice.state === 'assigned' && slice.allocator === 'server';
  if (block.offered !== isOffered) flaws.push(`${name} is ${isOffered ? 'not ' : ''}offered`);
  return flaws;
}

function flawsBetweenSlices(slices: readonly Slice[]): readonly string[] {
  return slices.flatMap((a) =>
    slices
      .filter(
        (b) => a.id < b.id && a.address === b.address && a.ports.first <= b.ports.last && b.ports.first <= a.ports.last,
      )
      .map((b) => `slice-${a.id} and slice-${b.id} overlap`),
  );
}

function flawsOfTenures(tables: Tables, slice: Slice): readonly string[] {
  const tenures = [...tables.tenures.values()]
    .filter((tenure) => tenure.slice === slice.id)
    .sort((a, b) => a.generation - b.generation);
  const flaws: string[] = [];
  if (tenures.length !== slice.generation || tenures.some((tenure, index) => tenure.generation !== index + 1))
    flaws.push(`slice-${slice.id} of generation ${slice.generation} has ${tenures.length} tenures`);
  for (const [index, tenure] of tenures.entries()) {
    const next = tenures[index + 1];
    if (next && (tenure.until === null || tenure.until > next.from))
      flaws.push(`slice-${slice.id}: generation ${tenure.generation} goes on into the next`);
  }
  const last = tenures.at(-1);
  if (last && (last.until === null) !== (slice.state !== 'free'))
    flaws.push(`slice-${slice.id}: its last tenure is wrong`);
  if (last && slice.state !== 'free' && last.machine !== slice.machine)
    flaws.push(`slice-${slice.id}: tenure of another`);
  return flaws;
}

function flawsOfLease(lease: Lease): readonly string[] {
  const { id, state, ending } = lease;
  const flaws: string[] = [];
  const expect = (name: string, is: unknown, should: boolean) => {
    if ((is !== null) !== should) flaws.push(`lease-${id} is ${state} and has ${should ? 'no ' : ''}${name}`);
  };
  const isOver = state === 'ended' || state === 'refused';
  const isLeaving = state === 'ending' || state === 'cooling' || state === 'ended';
  expect('end', lease.endedAt, isOver);
  expect('ending', ending, isLeaving);
  expect('time of ending', lease.endingAt, isLeaving);
  expect('proof of being empty', lease.emptyAt, state === 'cooling' || state === 'ended');
  expect('refusal', lease.refusal, state === 'refused');
  expect('session', lease.session, true);
  expect('binding', lease.binding, lease.mode === 'shared');
  if (state === 'cooling') expect('time of reuse', lease.reusableAt, true);
  if (state === 'active') expect('start', lease.activeAt, true);
  if (state === 'pending') expect('start', lease.activeAt, false);
  const times = [lease.grantedAt, lease.activeAt, lease.endingAt, lease.emptyAt].filter((time) => time !== null);
  if (times.some((time, index) => index > 0 && time < (times[index - 1] ?? 0)))
    flaws.push(`lease-${id} goes back in time`);
  const size = lease.ports.last - lease.ports.first + 1;
  if (![...Array(17).keys()].some((order) => 2 ** order === size)) flaws.push(`lease-${id} has ${size} ports`);
  if (lease.ports.first % size !== 0) flaws.push(`lease-${id} is not aligned`);
  return flaws;
}

function flawsOfLog(events: readonly Event[]): readonly string[] {
  const flaws: string[] = [];
  for (const [index, event] of events.entries()) {
    const previous = events[index - 1];
    if (event.revision !== (previous?.revision ?? 0) + 1) flaws.push(`revision ${event.revision} follows a gap`);
    if (previous && event.at <= previous.at) flaws.push(`revision ${event.revision} goes back in time`);
  }
  return flaws;
}
