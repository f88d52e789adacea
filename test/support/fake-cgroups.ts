import type { CgroupTable } from '../../src/agent/leases/ownership.ts';

/** The control groups of a host in memory. */
export class FakeCgroups implements CgroupTable {
  problem: string | undefined;
  /** Numbers by path. */
  readonly ids = new Map<string, string>();
  /** Paths by process. */
  readonly processes = new Map<number, string>();

  idOf(path: string): string | undefined {
    return this.ids.get(path);
  }

  idsWithin(path: string): ReadonlySet<string> {
    return new Set([...this.ids].flatMap(([each, id]) => (`${each}/`.startsWith(`${path}/`) ? [id] : [])));
  }

  pathOf(pid: number): string | undefined {
    return this.processes.get(pid);
  }
}
