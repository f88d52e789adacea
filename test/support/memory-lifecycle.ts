import { familyOf } from '../../src/net/address.ts';
import { hasOccupants, type Machine } from '../../src/leases/model.ts';
import type { NeedOf } from '../../src/leases/needs.ts';
import type { View } from '../../src/leases/view.ts';
import type { Tables } from './memory-store.ts';

type Need = NeedOf<
  | ('ownedByMachine' | 'liveSession' | 'machineHolders' | 'machineTokens' | 'routerTokens')
  | ('sessionOfHolder' | 'leaseOfHolder')
  | ('wantingMachines' | 'ownedSlices' | 'unsettledMachines' | 'undrainedSlices' | 'unreclaimedSlices')
>;

/** What is asked for when machines and routers come to an end. */
export function loadForLifecycle(tables: Tables, view: View, need: Need): void {
  switch (need.need) {
    case 'ownedByMachine': {
      const owned = [...tables.slices.values()].filter(({ machine }) => machine === need.machine);
      for (const slice of owned.sort((a, b) => a.id - b.id).slice(0, 1)) view.slices.load(slice);
      return;
    }
    case 'liveSession': {
      const live = [...tables.sessions.values()].filter((row) => row.machine === need.machine && row.state === 'live');
      for (const session of live.sort((a, b) => a.id - b.id).slice(0, 1)) view.sessions.load(session);
      return;
    }
    case 'sessionOfHolder':
    case 'leaseOfHolder': {
      const lowest = <Row extends Readonly<{ id: number; machine: string; holder: string }>>(rows: Iterable<Row>) =>
        [...rows]
          .filter(({ machine, holder }) => machine === need.machine && holder === need.holder)
          .sort((a, b) => a.id - b.id)[0];
      if (need.need === 'sessionOfHolder') {
        const session = lowest([...tables.sessions.values()].filter(({ settled }) => !settled));
        if (session) view.sessions.load(session);
      } else {
        const lease = lowest(
          [...tables.leases.values()].filter(
            (row) => hasOccupants(row) && (row.session === null || row.state === 'ending'),
          ),
        );
        if (lease) view.leases.load(lease);
      }
      return;
    }
    case 'machineHolders':
      for (const row of tables.holders.values()) if (row.machine === need.machine) view.holders.load(row);
      return;
    case 'machineTokens':
      for (const row of tables.accessTokens.values())
        if (row.machine === need.machine && row.revokedAt === null) view.accessTokens.load(row);
      return;
    case 'routerTokens':
      for (const row of tables.accessTokens.values())
        if (row.router === need.router && row.revokedAt === null) view.accessTokens.load(row);
      return;
    case 'wantingMachines': {
      const lookAt = ({ wanting }: Machine) => wanting.lookAt ?? Infinity;
      for (const machine of [...tables.machines.values()]
        .filter((row) => row.state === 'active' && lookAt(row) <= need.before)
        .sort((a, b) => lookAt(a) - lookAt(b) || (a.id < b.id ? -1 : 1))
        .slice(0, need.limit)) {
        view.machines.load(machine);
        view.due.wanting.push(machine);
      }
      return;
    }
    case 'ownedSlices':
      view.loadOwned(
        need.machine,
        [...tables.slices.values()]
          .filter(({ machine, state }) => machine === need.machine && (state === 'assigning' || state === 'assigned'))
          .map(({ pool, address, allocator }) => ({ pool, family: familyOf(address), allocator, slices: 1 })),
      );
      return;
    case 'unsettledMachines':
      for (const machine of [...tables.machines.values()]
        .filter(({ settled, intent, agent, fenceUs }) => {
          if (settled) return false;
          if (intent === 'draining' || agent === null) return true;
          return fenceUs <= need.fenceUsMax && agent.seenAt + fenceUs <= need.before;
        })
        .sort((a, b) => (a.id < b.id ? -1 : 1))
        .slice(0, need.limit)) {
        view.machines.load(machine);
        view.due.emptying.push(machine);
      }
      return;
    case 'undrainedSlices':
    case 'unreclaimedSlices':
      for (const slice of [...tables.slices.values()]
        .filter((row) => row.machine === need.machine)
        .filter(({ state, drainBy, reclaimed }) => {
          if (need.need === 'unreclaimedSlices') return state !== 'cooling' && !reclaimed;
          const isLate = need.drainBy !== null && (drainBy === null || drainBy > need.drainBy);
          return state === 'assigning' || state === 'assigned' || (state === 'draining' && isLate);
        })
        .sort((a, b) => a.id - b.id)
        .slice(0, need.limit)) {
        view.slices.load(slice);
        view.due.staying.push(slice);
      }
      return;
  }
}
