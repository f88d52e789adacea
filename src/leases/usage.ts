import { familyOf, type Family } from '../net/address.ts';
import { portCount, type PortRange } from '../net/ports.ts';
import type { Protocol } from '../net/protocol.ts';
import { hasOccupants, type Extent, type Lease } from './model.ts';
import type { UsageRow } from './store.ts';
import type { Change } from './table.ts';
import type { Changes, HeldPorts } from './changes.ts';

type Use = UsageRow['state'];
type Place = Readonly<{ pool: string; machine: string; protocol: Protocol; ports: PortRange }>;

/** By how much a batch changes how many ports are in which use: a row for each kind that it changes. */
export function portsMoved(changes: Pick<Changes, 'extents' | 'blocks' | 'leases'>): readonly UsageRow[] {
  const moved = new Map<string, UsageRow>();
  const add = (place: Place, family: Family, state: Use, ports: number) => {
    const { pool, machine, protocol } = place;
    const key = `${pool}/${machine}/${family}/${protocol}/${state}`;
    moved.set(key, { pool, machine, family, protocol, state, ports: (moved.get(key)?.ports ?? 0) + ports });
  };
  const follow = <Row extends Place>(
    rows: readonly Change<Row>[],
    useOf: (row: Row) => Use | undefined,
    family: (row: Row) => Family,
  ) => {
    const count = (row: Row, sign: number) => {
      const use = useOf(row);
      if (use !== undefined) add(row, family(row), use, sign * portCount(row.ports));
    };
    for (const { before, after } of rows) {
      if (before) count(before, -1);
      if (after) count(after, 1);
    }
  };
  follow(changes.extents, useOfExtent, (extent) => extent.family);
  follow(
    changes.blocks,
    () => 'shared',
    (block) => block.family,
  );
  follow(changes.leases, useOfLease, (lease) => familyOf(lease.address));
  return [...moved.values()].filter(({ ports }) => ports !== 0);
}

/** What is not granted in a slice that the machine grants in is the machine's to give, and whether it did it alone knows. */
export function useOfExtent({ state, allocator, offered }: Pick<Extent, 'state' | 'allocator' | 'offered'>): Use {
  if (state !== 'free' || offered) return state;
  return allocator === 'machine' ? 'machine_allocated' : 'withheld';
}

/** Occupied shared leases are counted by their block; one that rests has the ports to itself. */
function useOfLease(lease: Lease): Use | undefined {
  if (lease.state === 'cooling') return 'cooling';
  return hasOccupants(lease) && lease.mode === 'exclusive' ? 'exclusive' : undefined;
}

/** By how much a batch changes what holders have, of the leases that are counted. */
export function heldMoved(
  changes: readonly Change<Lease>[],
  isCounted: (lease: Lease) => boolean,
): readonly HeldPorts[] {
  const moved = new Map<string, HeldPorts>();
  const add = (lease: Lease | undefined, sign: number) => {
    if (!lease || !hasOccupants(lease) || !isCounted(lease)) return;
    const { machine, holder, protocol } = lease;
    const key = `${machine}/${holder}/${protocol}`;
    const ports = (moved.get(key)?.ports ?? 0) + sign * portCount(lease.ports);
    moved.set(key, { machine, holder, protocol, ports });
  };
  for (const { before, after } of changes) {
    add(before, -1);
    add(after, 1);
  }
  return [...moved.values()].filter(({ ports }) => ports !== 0);
}
