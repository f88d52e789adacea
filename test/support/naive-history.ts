import { expect } from 'vitest';
import type { PortInstant, Reader } from '../../src/leases/store.ts';
import type { Event } from '../../src/leases/model.ts';
import type { Tables } from './memory-store.ts';

/** Who was where at one instant, as somebody saw who looked at the live rows then. */
type Sight = Readonly<{
  at: number;
  leases: readonly Readonly<{ id: number; machine: string; holder: string; slice: number; places: readonly Place[] }>[];
  owners: readonly Readonly<{ machine: string; allocator: string; places: readonly Place[] }>[];
}>;
type Place = Omit<PortInstant, 'at'>;

/** Places that are asked about for each instant: what is taken, and a port beside it. */
const places_max = 4;

/**
 * A history kept by looking: at the end of each step, who occupies what. It knows of no index, no interval and no end of a
 * lease, so whatever is asked about such an instant later must come to the same.
 */
export class NaiveHistory {
  readonly #sights = new Map<number, Sight>();

  /** What is there now is as the last event left it. */
  look(tables: Tables, events: readonly Event[]): void {
    const at = events.at(-1)?.at;
    if (at === undefined) return;
    const leases = [...tables.leases.values()]
      .filter(({ state }) => state === 'pending' || state === 'active' || state === 'ending')
      .map(({ id, machine, holder, slice, address, protocol, ports }) => ({
        ...{ id, machine, holder, slice },
        places: [ports.first, ports.last].map((port) => ({ address, protocol, port })),
      }));
    const owners = [...tables.slices.values()].flatMap(({ machine, allocator, address, ports }) =>
      machine === null
        ? []
        : [{ machine, allocator, places: [{ address, protocol: 'icmp' as const, port: ports.last }] }],
    );
    this.#sights.set(at, { at, leases, owners });
  }

  /** Compares what `reader` tells of the past with what was seen, from `since` on. */
  async compare(reader: Reader, tables: Tables, since: number | null): Promise<void> {
    for (const { at, leases, owners } of this.#sights.values()) {
      if (since !== null && at < since) continue;
      // Those that were refused afterwards never had it.
      const had = leases.filter(({ id }) => tables.leases.get(id)?.state !== 'refused');
      const asked = had.flatMap(({ places }) => places).filter((_, index) => (index + at) % 7 < places_max);
      for (const place of asked.slice(0, places_max)) {
        const told = await reader.whoHad({ ...place, at });
        const there = had.filter(({ id }) => covers(tables, id, place));
        expect(new Set(told.leases.map(({ id }) => id))).toEqual(new Set(there.map(({ id }) => id)));
        expect(there.map(({ machine }) => machine)).toEqual(there.map(() => told.tenure?.machine));
      }
      for (const { machine, allocator, places } of owners.slice(0, places_max))
        for (const place of places)
          expect((await reader.whoHad({ ...place, at })).tenure).toMatchObject({ machine, allocator });
      for (const { id, machine, holder } of had.slice(0, 1)) {
        const then = { since: at, until: at + 1 };
        const theirs = had.filter((lease) => lease.machine === machine && lease.holder === holder);
        const { items } = await reader.uses({ machine, holder, ...then }, { limit: 1_000, cursor: null });
        const granted = items.filter(({ byMachine }) => !byMachine);
        expect(granted.map((lease) => lease.id)).toEqual(theirs.map((lease) => lease.id).sort((a, b) => a - b));
        const lease = tables.leases.get(id);
        if (!lease) throw new Error(`lease-${id} was seen and is gone`);
        const port = { address: lease.address, port: lease.ports.first, protocol: lease.protocol, ...then };
        const there = await reader.uses(port, { limit: 1_000, cursor: null });
        expect(there.items.map((found) => found.id)).toContain(id);
      }
    }
  }
}

function covers(tables: Tables, id: number, { address, protocol, port }: Place): boolean {
  const lease = tables.leases.get(id);
  return (
    lease?.address === address && lease.protocol === protocol && lease.ports.first <= port && port <= lease.ports.last
  );
}
