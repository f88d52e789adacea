import type { Protocol } from '../net/protocol.ts';
import { inEffect } from '../leases/expiry.ts';
import { limits } from '../leases/limits.ts';
import type { Epoch, Lease, Machine, Session } from '../leases/model.ts';
import type { DesiredState, Tiling } from '../leases/store.ts';
import * as rows from './rows.ts';
import { all, map, one, type Read } from './statement.ts';

/** A lease with what its session makes of it. */
export type LeaseAndSession = rows.LeaseRow &
  Readonly<{ session_state: string | null; session_ending: string | null; session_ended_at: number | null }>;

export const leaseSelect = `SELECT leases.*, sessions.state AS session_state, sessions.ending AS session_ending,
  sessions.ended_at AS session_ended_at FROM leases LEFT JOIN sessions ON sessions.id = leases.session`;
/** How leases are read: in effect. To be called first: what came into effect after that comes after the read. */
export function* leaseReader(): Read<(row: LeaseAndSession) => Lease> {
  const found = yield* all<rows.RevocationRow>(`SELECT * FROM revocations WHERE state = 'ending' ORDER BY id`);
  const revocations = found.map(rows.revocationOf);
  return (row) => {
    const state = row.session_state === 'ended' ? 'ended' : 'live';
    const ending = row.session_ending as Session['ending'];
    return inEffect(rows.leaseOf(row), { state, ending, endedAt: row.session_ended_at }, revocations);
  };
}

export function* revision(): Read<number> {
  return (yield* one<{ revision: number | null }>('SELECT max(revision) AS revision FROM events'))?.revision ?? 0;
}

export function* epoch(): Read<Epoch> {
  const found = yield* one<rows.EpochRow>('SELECT * FROM epochs ORDER BY number DESC LIMIT 1');
  if (!found) throw new Error('the table is in no epoch');
  return rows.epochOf(found);
}

export function* machine(id: string): Read<Machine | undefined> {
  return map(yield* one<rows.MachineRow>('SELECT * FROM machines WHERE id = @id', { id }), rows.machineOf);
}

export function* tiling(slice: number): Read<Tiling> {
  const leaseOf = yield* leaseReader();
  const extents = yield* all<rows.ExtentRow>(
    'SELECT * FROM extents WHERE slice = @slice ORDER BY protocol, first_port',
    { slice },
  );
  const leases = yield* all<LeaseAndSession>(
    `${leaseSelect} WHERE leases.slice = @slice AND leases.ended_at IS NULL
     ORDER BY leases.protocol, leases.first_port, leases.id`,
    { slice },
  );
  const blocked = yield* all<rows.SharedBlockRow>(
    'SELECT * FROM shared_blocks WHERE slice = @slice AND blocked_since IS NOT NULL ORDER BY protocol, first_port',
    { slice },
  );
  return {
    extents: extents.map(rows.extentOf),
    leases: leases.map(leaseOf),
    blocked: blocked.map(rows.sharedBlockOf),
  };
}

type BlockedRow = Pick<rows.ExtentRow, 'slice' | 'protocol' | 'first_port' | 'last_port'>;

export function* desired(id: string): Read<DesiredState | undefined> {
  const found = yield* machine(id);
  if (!found) return undefined;
  const leaseOf = yield* leaseReader();
  const pools = yield* all<rows.PoolRow>('SELECT * FROM pools ORDER BY id');
  const slices = yield* all<rows.SliceRow>(
    `SELECT * FROM slices WHERE machine = @id AND state IN ('assigning', 'assigned', 'draining')
     AND route <> 'adding' AND reclaimed = 0 ORDER BY id`,
    { id },
  );
  const holders = yield* all<rows.HolderRow>('SELECT * FROM holders WHERE machine = @id ORDER BY name', { id });
  const leases = yield* all<LeaseAndSession>(
    `${leaseSelect} WHERE leases.machine = @id AND leases.ended_at IS NULL
     AND leases.state IN ('pending', 'active', 'ending') ORDER BY leases.id`,
    { id },
  );
  const blocked = yield* all<BlockedRow>(
    `SELECT slice, protocol, first_port, last_port FROM extents WHERE machine = @id AND state = 'blocked'
     UNION ALL SELECT slice, protocol, first_port, last_port FROM shared_blocks
       WHERE machine = @id AND blocked_since IS NOT NULL
     ORDER BY slice, protocol, first_port`,
    { id },
  );
  const known = new Set(slices.map((slice) => slice.id));
  const revocations =
    found.ownSlices === 0
      ? []
      : yield* all<rows.RevocationRow>(
          `SELECT * FROM revocations WHERE slice IS NULL AND (machine IS NULL OR machine = @id)
           ORDER BY id DESC LIMIT @limit`,
          { id, limit: limits.revocations_told_max },
        );
  return {
    epoch: yield* epoch(),
    revision: yield* revision(),
    machine: found,
    pools: pools.map(rows.poolOf),
    slices: slices.map(rows.sliceOf),
    holders: holders.map(rows.holderOf),
    // What was reclaimed is no longer the machine's to end, nor is what is in a slice that was.
    leases: leases.map(leaseOf).filter(({ slice, ending }) => known.has(slice) && ending !== 'fenced'),
    blocked: blocked.map(({ slice, protocol, first_port: first, last_port: last }) => {
      return { slice, protocol: protocol as Protocol, ports: { first, last } };
    }),
    revocations: revocations.map(rows.revocationOf).reverse(),
  };
}
