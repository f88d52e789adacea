import type { PortRange } from '../../net/ports.ts';
import type { Extent, Lease, SharedBlock, Slice, Tenure } from '../../leases/model.ts';

/** A slice and every row of it that counts now. */
export type SliceParts = Readonly<{
  slice: Slice;
  extents: readonly Extent[];
  /** Those that keep their ports from others. */
  leases: readonly Lease[];
  blocks: readonly SharedBlock[];
  tenures: readonly Tenure[];
  /** Since when the history is whole: tenures that were over before have been removed. null: none has. */
  historySince: number | null;
  /** Where the log begins. A slice with a lower number was made by another table: what it was there, this one does not know. */
  logFrom: number;
}>;

const occupies = ({ state }: Lease): boolean => state === 'pending' || state === 'active' || state === 'ending';
const samePorts = (a: PortRange, b: PortRange): boolean => a.first === b.first && a.last === b.last;
const show = ({ first, last }: PortRange): string => `${first}-${last}`;

/**
 * What does not hold of a slice. Nothing here comes from the engine, so that a mistake of its arithmetic is not made a
 * second time: what must be true is written down anew, row against row.
 */
export function flawsOfSlice(parts: SliceParts): readonly string[] {
  const { slice, extents, leases, blocks } = parts;
  const name = `slice-${slice.id}`;
  const flaws = [...flawsOfTenures(parts), ...flawsOfRoute(slice)];
  if (slice.state === 'free') {
    if (extents.length + leases.length + blocks.length > 0) flaws.push(`${name} is free and has extents or leases`);
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
    flaws.push(
      ...flawsOfTiling(`${name} ${protocol}`, slice.ports, [
        ...here(extents).map(({ ports, state }) => ({ ports, owner: `${state} extent` })),
        ...here(blocks).map(({ ports }) => ({ ports, owner: 'shared block' })),
        // Occupied shared leases are in a block; one that rests has the ports to itself.
        ...here(leases)
          .filter((lease) => lease.mode === 'exclusive' || lease.state === 'cooling')
          .map(({ ports, id }) => ({ ports, owner: `lease-${id}` })),
      ]),
      ...here(extents).flatMap((extent) => flawsOfExtent(slice, extent, here(extents))),
      ...here(blocks).flatMap((block) => flawsOfBlock(slice, block, here(leases))),
    );
    for (const lease of here(leases))
      if (
        lease.mode === 'shared' &&
        occupies(lease) &&
        !here(blocks).some(({ ports }) => samePorts(ports, lease.ports))
      )
        flaws.push(`lease-${lease.id} is shared and in no block`);
  }
  return flaws;
}

/** A machine is told of a slice that the routers know the way to, and keeps it until they have let go. */
function flawsOfRoute({ id, state, route, routeRevision, revision }: Slice): readonly string[] {
  const flaws: string[] = [];
  const fitting: Readonly<Record<Slice['route'], readonly Slice['state'][]>> = {
    none: ['free'],
    adding: ['assigning', 'cooling'],
    routed: ['assigning', 'assigned', 'draining', 'cooling'],
    removing: ['cooling'],
  };
  if (!fitting[route].includes(state)) flaws.push(`slice-${id} is ${state} and its route is ${route}`);
  if (routeRevision > revision) flaws.push(`slice-${id} has a route of a revision that was never told`);
  return flaws;
}

type Piece = Readonly<{ ports: PortRange; owner: string }>;

/** Every port belongs to one piece: walked from the first to the last, each piece begins where the one before ends. */
function flawsOfTiling(name: string, whole: PortRange, pieces: readonly Piece[]): readonly string[] {
  const flaws: string[] = [];
  let next = whole.first;
  let before = 'the beginning';
  for (const { ports, owner } of [...pieces].sort((a, b) => a.ports.first - b.ports.first)) {
    if (ports.first > next) flaws.push(`${name} ports ${next}-${ports.first - 1} belong to nobody`);
    if (ports.first < next) flaws.push(`${name} ports ${show(ports)}: ${owner} overlaps ${before}`);
    if (ports.last >= next) next = ports.last + 1;
    before = `${owner} ${show(ports)}`;
  }
  if (next <= whole.last) flaws.push(`${name} ports ${next}-${whole.last} belong to nobody`);
  if (next > whole.last + 1) flaws.push(`${name}: ${before} is outside of it`);
  return flaws;
}

function flawsOfExtent(slice: Slice, extent: Extent, all: readonly Extent[]): readonly string[] {
  const flaws: string[] = [];
  const { first, last } = extent.ports;
  const name = `${extent.state} extent ${first}-${last}/${extent.protocol} of slice-${slice.id}`;
  const isOffered = extent.state === 'free' && slice.state === 'assigned' && slice.allocator === 'server';
  if (extent.allocator !== slice.allocator) flaws.push(`${name} says that the ${extent.allocator} grants in it`);
  if (extent.offered !== isOffered) flaws.push(`${name} is ${isOffered ? 'not ' : ''}offered`);
  const fits = (order: number) => Math.ceil(first / 2 ** order) * 2 ** order + 2 ** order - 1 <= last;
  const fit = Array.from({ length: 17 }, (_, order) => order).findLast(fits) ?? 0;
  if (extent.state === 'free' && extent.fit !== fit) flaws.push(`${name} says that it fits ${extent.fit}, not ${fit}`);
  if (extent.state === 'free' && all.some((other) => other.state === 'free' && other.ports.first === last + 1))
    flaws.push(`${name} touches another free one`);
  if ((extent.state === 'cooling') !== (extent.reusableAt !== null)) flaws.push(`${name} has an odd time of reuse`);
  if ((extent.state === 'blocked') !== (extent.blocked !== null)) flaws.push(`${name} has an odd reason`);
  return flaws;
}

function flawsOfBlock(slice: Slice, block: SharedBlock, leases: readonly Lease[]): readonly string[] {
  const flaws: string[] = [];
  const members = leases.filter(
    (lease) => lease.mode === 'shared' && occupies(lease) && samePorts(block.ports, lease.ports),
  );
  const name = `shared block ${block.ports.first} of slice-${slice.id}`;
  if (members.length !== block.members || members.length === 0)
    flaws.push(`${name} counts ${block.members} members, not ${members.length}`);
  if (members.some((lease) => lease.binding !== block.binding)) flaws.push(`${name} has members of several bindings`);
  if (new Set(members.map((lease) => lease.holder)).size !== members.length) flaws.push(`${name} has a holder twice`);
  const isOffered = slice.state === 'assigned' && slice.allocator === 'server' && block.blocked === null;
  if (block.offered !== isOffered) flaws.push(`${name} is ${isOffered ? 'not ' : ''}offered`);
  return flaws;
}

function flawsOfTenures({ slice, tenures: unsorted, historySince, logFrom }: SliceParts): readonly string[] {
  const tenures = [...unsorted].sort((a, b) => a.generation - b.generation);
  const flaws: string[] = [];
  const name = `slice-${slice.id}`;
  const first = historySince === null ? 1 : Math.max(1, slice.generation + 1 - tenures.length);
  const isWhole = tenures.every((tenure, index) => tenure.generation === first + index);
  const isAdopted = slice.id < logFrom;
  const isLastThere = tenures.at(-1)?.generation === slice.generation;
  if (isAdopted ? !isLastThere : !isWhole || tenures.length !== slice.generation + 1 - first)
    flaws.push(`${name} of generation ${slice.generation} has ${tenures.length} tenures`);
  for (const { generation, address, ports } of tenures)
    if (address !== slice.address || !samePorts(ports, slice.ports))
      flaws.push(`${name}: generation ${generation} was elsewhere`);
  for (const [index, tenure] of tenures.entries()) {
    const next = tenures[index + 1];
    if (next && (tenure.until === null || tenure.until > next.from))
      flaws.push(`${name}: generation ${tenure.generation} goes on into the next`);
  }
  const last = tenures.at(-1);
  if (last && (last.until === null) !== (slice.state !== 'free')) flaws.push(`${name}: its last tenure is wrong`);
  if (last && slice.state !== 'free' && last.machine !== slice.machine) flaws.push(`${name}: tenure of another`);
  if (last && slice.state !== 'free' && last.allocator !== slice.allocator)
    flaws.push(`${name}: its last tenure says that the ${last.allocator} granted in it`);
  if ((slice.machine === null) !== (slice.state === 'free'))
    flaws.push(`${name} is ${slice.state} on ${slice.machine ?? 'no machine'}`);
  return flaws;
}
