import { familyOf } from '../net/address.ts';
import { matches, type Selector } from '../net/selector.ts';
import { steering, type Event, type Machine, type Pool, type Slice } from '../leases/model.ts';
import { hasRoute } from '../leases/routing.ts';
import type { PageOf, PageRequest, Reader } from '../leases/store.ts';
import type { Route } from '../wire/routes.ts';

/** Which routes are meant: those that meet every condition given. */
export type RouteFilter = Readonly<{ pool?: string; machine?: string; select?: Selector }>;

const rows_per_read = 1_000;
/** Changes that may come in while the table is read, in pages; more than these, and it is read anew. */
const catch_up_pages_max = 100;
const attempts_max = 3;

/** The slices that have a route, and what else routes are made of, as of one revision. */
export class RouteTable {
  readonly #slices = new Map<number, Slice>();
  readonly #machines = new Map<string, Machine>();
  readonly #pools = new Map<string, Pool>();
  readonly #filter: RouteFilter;
  revision = 0;

  constructor(filter: RouteFilter) {
    this.#filter = filter;
  }

  putSlice(slice: Slice): void {
    if (hasRoute(slice) && this.#isOfFilter(slice)) this.#slices.set(slice.id, slice);
    else this.#slices.delete(slice.id);
  }

  putMachine(machine: Machine): void {
    this.#machines.set(machine.id, machine);
  }

  putPool(pool: Pool): void {
    this.#pools.set(pool.id, pool);
  }

  /** Brings the table from the revision before the event to that of the event. */
  follow(event: Event): void {
    if (event.kind === 'slice') this.putSlice(event.slice);
    if (event.kind === 'machine') this.putMachine(event.subject);
    if (event.kind === 'pool') this.putPool(event.pool);
  }

  /** In the order of their slices. */
  *routes(): Generator<Route, void, undefined> {
    const { select } = this.#filter;
    for (const slice of [...this.#slices.values()].sort((a, b) => a.id - b.id)) {
      if (select !== undefined && !matches(select, this.#pools.get(slice.pool)?.labels ?? {})) continue;
      yield routeOf(slice, this.#machines.get(slice.machine ?? ''));
    }
  }

  /** Also where slices are few: every size that there may be, so that what is made of it has a place for each. */
  get sliceSizes(): readonly number[] {
    const { pool } = this.#filter;
    const pools = [...this.#pools.values()].filter(({ id }) => pool === undefined || id === pool);
    return [...new Set(pools.map(({ slicePorts }) => slicePorts))].sort((a, b) => a - b);
  }

  #isOfFilter({ pool, machine }: Slice): boolean {
    return (
      (this.#filter.pool === undefined || this.#filter.pool === pool) &&
      (this.#filter.machine === undefined || this.#filter.machine === machine)
    );
  }
}

export function routeOf(slice: Slice, machine: Machine | undefined): Route {
  const family = familyOf(slice.address);
  return {
    slice: `slice-${slice.id}`,
    pool: slice.pool,
    address: slice.address,
    ports: slice.ports,
    machine: slice.machine ?? '',
    mark: machine?.mark ?? null,
    next_hop: machine?.nextHops.find((hop) => familyOf(hop) === family) ?? null,
    generation: slice.generation,
    revision: slice.routeRevision,
  };
}

type Source = Pick<Reader, 'revision' | 'oldestRevision' | 'slices' | 'machines' | 'pools' | 'eventsAfter'>;

/**
 * All routes of one revision. Read a piece at a time, so that nobody waits behind a large table; what changed meanwhile is
 * made up for from the log. Undefined when it changes faster than it can be read.
 */
export async function takeRoutes(reader: Source, filter: RouteFilter): Promise<RouteTable | undefined> {
  for (let attempt = 1; attempt <= attempts_max; attempt++) {
    const table = new RouteTable(filter);
    const from = await reader.revision();
    const { pool, machine } = filter;
    const part = { ...(pool === undefined ? {} : { pool }), ...(machine === undefined ? {} : { machine }) };
    for await (const found of everyPage((page) => reader.pools({}, page))) found.forEach((row) => table.putPool(row));
    for await (const found of everyPage((page) => reader.machines({}, page)))
      found.forEach((row) => table.putMachine(row));
    for await (const found of everyPage((page) => reader.slices(part, page)))
      found.forEach((row) => table.putSlice(row));
    if (await catchUp(reader, table, from)) return table;
  }
  return undefined;
}

/** Rows were read at several revisions from `from` on; after this all of them are as of the last. */
async function catchUp(reader: Source, table: RouteTable, from: number): Promise<boolean> {
  const end = await reader.revision();
  let cursor = from;
  for (let pages = 0; pages < catch_up_pages_max; pages++) {
    const events = await reader.eventsAfter(cursor, steering, rows_per_read);
    for (const event of events) if (event.revision <= end) table.follow(event);
    cursor = events.at(-1)?.revision ?? end;
    if (events.length < rows_per_read || cursor >= end) {
      table.revision = end;
      // Had the log been compacted under it, what was followed could have a hole in front.
      return (await reader.oldestRevision()) <= from + 1;
    }
  }
  return false;
}

async function* everyPage<T>(
  list: (page: PageRequest) => Promise<PageOf<T>>,
): AsyncGenerator<readonly T[], void, undefined> {
  for (let cursor: string | null = null; ;) {
    const page: PageOf<T> = await list({ limit: rows_per_read, cursor });
    yield page.items;
    if (page.next === null) return;
    cursor = page.next;
  }
}
