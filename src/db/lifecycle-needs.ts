import type { Owned } from '../leases/view.ts';
import { due, each, loadLease, loadSlice, loadToken, whole, type NeedStatements } from './need-statement.ts';
import * as rows from './rows.ts';
import { heldWithoutSession } from './lease-index.ts';

/** What is needed where machines and routers come and go, and slices with them. */
export const lifecycleNeeds: Pick<
  NeedStatements,
  | ('ownedByMachine' | 'liveSession' | 'machineHolders' | 'machineTokens' | 'routerTokens')
  | ('sessionOfHolder' | 'leaseOfHolder')
  | ('unsettledMachines' | 'wantingMachines' | 'ownedSlices' | 'undrainedSlices' | 'unreclaimedSlices')
> = {
  ownedByMachine: [
    each(
      'SELECT * FROM slices WHERE machine = @machine ORDER BY id LIMIT 1',
      ({ machine }) => ({ machine }),
      loadSlice,
    ),
  ],
  liveSession: [
    each(
      `SELECT * FROM sessions WHERE machine = @machine AND state = 'live' ORDER BY id LIMIT 1`,
      ({ machine }) => ({ machine }),
      (view, row: rows.SessionRow) => view.sessions.load(rows.sessionOf(row)),
    ),
  ],
  sessionOfHolder: [
    each(
      'SELECT * FROM sessions WHERE machine = @machine AND holder = @holder AND settled = 0 ORDER BY id LIMIT 1',
      ({ machine, holder }) => ({ machine, holder }),
      (view, row: rows.SessionRow) => view.sessions.load(rows.sessionOf(row)),
    ),
  ],
  leaseOfHolder: [
    each(
      `SELECT * FROM leases WHERE machine = @machine AND holder = @holder AND ${heldWithoutSession}
       ORDER BY id LIMIT 1`,
      ({ machine, holder }) => ({ machine, holder }),
      loadLease,
    ),
  ],
  machineHolders: [
    each(
      'SELECT * FROM holders WHERE machine = @machine',
      ({ machine }) => ({ machine }),
      (view, row: rows.HolderRow) => view.holders.load(rows.holderOf(row)),
    ),
  ],
  machineTokens: [
    each(
      'SELECT * FROM access_tokens WHERE machine = @machine AND revoked_at IS NULL ORDER BY id',
      ({ machine }) => ({ machine }),
      loadToken,
    ),
  ],
  routerTokens: [
    each(
      'SELECT * FROM access_tokens WHERE router = @router AND revoked_at IS NULL ORDER BY id',
      ({ router }) => ({ router }),
      loadToken,
    ),
  ],
  unsettledMachines: [
    each(
      `SELECT * FROM machines WHERE settled = 0 AND (intent = 'draining' OR seen_at IS NULL OR (
         fence_us <= @fence_us_max AND seen_at + fence_us <= @before)) ORDER BY id LIMIT @limit`,
      ({ before, fenceUsMax, limit }) => ({ before, fence_us_max: fenceUsMax, limit }),
      (view, row: rows.MachineRow) => due(view.machines, view.due.emptying, rows.machineOf(row)),
    ),
  ],
  wantingMachines: [
    each(
      `SELECT * FROM machines WHERE state = 'active' AND wants_look_at IS NOT NULL AND wants_look_at <= @before
       ORDER BY wants_look_at, id LIMIT @limit`,
      ({ before, limit }) => ({ before, limit }),
      (view, row: rows.MachineRow) => due(view.machines, view.due.wanting, rows.machineOf(row)),
    ),
  ],
  ownedSlices: [
    whole(
      `SELECT pool, family, allocator, count(*) AS slices FROM slices
       WHERE machine = @machine AND state IN ('assigning', 'assigned') GROUP BY pool, family, allocator`,
      ({ machine }) => ({ machine }),
      (view, owned: readonly Owned[], { machine }) => view.loadOwned(machine, owned),
    ),
  ],
  undrainedSlices: [
    each(
      `SELECT * FROM slices WHERE machine = @machine AND (state IN ('assigning', 'assigned') OR (
         state = 'draining' AND coalesce(drain_by, @before + 1) > @before)) ORDER BY id LIMIT @limit`,
      // No slice drains by an instant that never comes.
      ({ machine, drainBy, limit }) => ({ machine, before: drainBy, limit }),
      (view, row: rows.SliceRow) => due(view.slices, view.due.staying, rows.sliceOf(row)),
    ),
  ],
  unreclaimedSlices: [
    each(
      `SELECT * FROM slices WHERE machine = @machine AND reclaimed = 0 AND state IN ('assigning', 'assigned', 'draining')
       ORDER BY id LIMIT @limit`,
      ({ machine, limit }) => ({ machine, limit }),
      (view, row: rows.SliceRow) => due(view.slices, view.due.staying, rows.sliceOf(row)),
    ),
  ],
};
