import type { CgroupTable } from './ownership.ts';
import { cgroupOf } from './ownership.ts';
import type { HeldLeases } from './held-leases.ts';

/** How long a service that was started again may find its ports shut; its first packets are sent again by then. */
export const cgroups_every_ms = 500;

/**
 * Looks whether the cgroups that holders are known by were made, removed or made anew: a service manager makes a new one,
 * with another number, whenever a service starts.
 */
export class CgroupFollower {
  readonly #table: CgroupTable;
  readonly #leases: HeldLeases;
  readonly #now: () => number;
  #lookedAt = -Infinity;

  constructor(table: CgroupTable, leases: HeldLeases, now: () => number) {
    this.#table = table;
    this.#leases = leases;
    this.#now = now;
  }

  /** undefined when no lease is by a cgroup. */
  nextLookInMs(): number | undefined {
    if (this.#leases.cgroups.size === 0) return undefined;
    return Math.max(0, this.#lookedAt + cgroups_every_ms - this.#now());
  }

  /** The leases whose cgroup is another one by now. */
  look(): readonly string[] {
    const wait = this.nextLookInMs();
    if (wait !== undefined && wait > 0) return [];
    this.#lookedAt = this.#now();
    const paths = new Set<string>();
    for (const [path, known] of this.#leases.cgroups) {
      const id = this.#table.idOf(path) ?? null;
      if (id === known.id) continue;
      known.id = id;
      paths.add(path);
    }
    if (paths.size === 0) return [];
    return [...this.#leases.all()].flatMap(({ lease, owner }) =>
      paths.has(cgroupOf(owner)?.path ?? '') ? [lease.id] : [],
    );
  }
}
