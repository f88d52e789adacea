import { portCount, type PortRange } from '../net/ports.ts';
import type { Protocol } from '../net/protocol.ts';
import { hasOccupants, type Extent, type Lease, type SharedBlock } from '../leases/model.ts';
import type { UsageRow } from '../leases/store.ts';
import type { Changes } from '../leases/view.ts';

type Use = UsageRow['state'];
type Place = Readonly<{ pool: string; machine: string; protocol: Protocol; ports: PortRange }>;

/**
 * How many ports are in which use. To count them takes as long as there are live leases; so they are counted once at most,
 * and kept up with what each commit changes. Begun from nothing, it is what the changes come to.
 */
export class PortCounts {
  readonly #rows: Map<string, UsageRow>;

  constructor(rows: readonly UsageRow[] = []) {
    this.#rows = new Map(rows.map((row) => [keyOf(row), row]));
  }

  rows(): readonly UsageRow[] {
    return [...this.#rows.values()];
  }

  /** To be called with what was committed, and with nothing else. */
  follow(changes: Changes): void {
    for (const { before, after } of changes.extents) this.#move(before, useOfExtent, after);
    for (const { before, after } of changes.blocks) this.#move(before, useOfBlock, after);
    for (const { before, after } of changes.leases) this.#move(before, useOfLease, after);
  }

  #move<Row extends Place>(
    before: Row | undefined,
    useOf: (row: Row) => Use | undefined,
    after: Row | undefined,
  ): void {
    if (before) this.#add(before, useOf(before), -portCount(before.ports));
    if (after) this.#add(after, useOf(after), portCount(after.ports));
  }

  #add({ pool, machine, protocol }: Place, state: Use | undefined, ports: number): void {
    if (state === undefined) return;
    const key = keyOf({ pool, machine, protocol, state });
    const row = { pool, machine, protocol, state, ports: (this.#rows.get(key)?.ports ?? 0) + ports };
    if (row.ports === 0) this.#rows.delete(key);
    else this.#rows.set(key, row);
  }
}

const ports = (state: string): string =>
  `SELECT pool, machine, protocol, ${state} AS state, last_port - first_port + 1 AS ports FROM`;

/** Counts the ports of every live row: columns as in `UsageRow`, in its order. */
export const usageSql = `SELECT pool, machine, protocol, state, sum(ports) AS ports FROM (
    ${ports('state')} extents
    UNION ALL ${ports(`CASE state WHEN 'cooling' THEN 'cooling' ELSE 'exclusive' END`)} leases
      WHERE ended_at IS NULL AND (mode = 'exclusive' OR state = 'cooling')
    UNION ALL ${ports(`'shared'`)} shared_blocks
  ) AS pieces GROUP BY pool, machine, protocol, state`;

const keyOf = ({ pool, machine, protocol, state }: Omit<UsageRow, 'ports'>): string =>
  `${pool}/${machine}/${protocol}/${state}`;

const useOfExtent = (extent: Extent): Use => extent.state;
const useOfBlock = (_: SharedBlock): Use => 'shared';

/** Occupied shared leases are counted by their block; one that rests has the ports to itself. */
function useOfLease(lease: Lease): Use | undefined {
  if (lease.state === 'cooling') return 'cooling';
  return hasOccupants(lease) && lease.mode === 'exclusive' ? 'exclusive' : undefined;
}
