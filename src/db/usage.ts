import { portCount, type PortRange } from '../net/ports.ts';
import type { Protocol } from '../net/protocol.ts';
import { hasOccupants, type Lease } from '../leases/model.ts';
import type { UsageRow } from '../leases/store.ts';
import type { Change } from '../leases/table.ts';
import type { Changes } from '../leases/view.ts';

type Use = UsageRow['state'];
type Place = Readonly<{ pool: string; machine: string; protocol: Protocol; ports: PortRange }>;

/** By how much a commit changes how many ports are in which use: a row for each kind that it changes. */
export function portsMoved(changes: Changes): readonly UsageRow[] {
  const moved = new Map<string, UsageRow>();
  const add = (place: Place, state: Use | undefined, ports: number) => {
    if (state === undefined) return;
    const { pool, machine, protocol } = place;
    const key = `${pool}/${machine}/${protocol}/${state}`;
    moved.set(key, { pool, machine, protocol, state, ports: (moved.get(key)?.ports ?? 0) + ports });
  };
  const follow = <Row extends Place>(rows: readonly Change<Row>[], useOf: (row: Row) => Use | undefined) => {
    for (const { before, after } of rows) {
      if (before) add(before, useOf(before), -portCount(before.ports));
      if (after) add(after, useOf(after), portCount(after.ports));
    }
  };
  follow(changes.extents, (extent) => extent.state);
  follow(changes.blocks, () => 'shared');
  follow(changes.leases, useOfLease);
  return [...moved.values()].filter(({ ports }) => ports !== 0);
}

const ports = (state: string): string =>
  `SELECT pool, machine, protocol, ${state} AS state, last_port - first_port + 1 AS ports FROM`;

/** Counts the ports of every live row, which takes as long as there are such: columns as in `UsageRow`, in its order. */
export const usageSql = `SELECT pool, machine, protocol, state, sum(ports) AS ports FROM (
    ${ports('state')} extents
    UNION ALL ${ports(`CASE state WHEN 'cooling' THEN 'cooling' ELSE 'exclusive' END`)} leases
      WHERE ended_at IS NULL AND (mode = 'exclusive' OR state = 'cooling')
    UNION ALL ${ports(`'shared'`)} shared_blocks
  ) AS pieces GROUP BY pool, machine, protocol, state`;

/** Occupied shared leases are counted by their block; one that rests has the ports to itself. */
function useOfLease(lease: Lease): Use | undefined {
  if (lease.state === 'cooling') return 'cooling';
  return hasOccupants(lease) && lease.mode === 'exclusive' ? 'exclusive' : undefined;
}
