import type { Address } from '../net/address.ts';
import { blockMask } from '../net/ports.ts';
import type { Protocol } from '../net/protocol.ts';
import { inEffect } from '../leases/expiry.ts';
import type { AccessToken, Event, Extent, Holder, Lease, Machine, Pool, Session, Slice } from '../leases/model.ts';
import type {
  DesiredState,
  LeaseFilter,
  PageOf,
  PageRequest,
  Reader,
  SessionFilter,
  SliceFilter,
  UsageRow,
} from '../leases/store.ts';
import * as rows from './rows.ts';
import { byNumber, byText, defined, scan, type Key } from './paging.ts';
import type { Connection } from './statements.ts';
import { Usage } from './usage.ts';

type Parameters = Record<string, string | number | null>;

/** A lease with what its session makes of it. */
type LeaseAndSession = rows.LeaseRow &
  Readonly<{ session_state: string | null; session_ending: string | null; session_ended_at: number | null }>;

const leaseSelect = `SELECT leases.*, sessions.state AS session_state, sessions.ending AS session_ending,
  sessions.ended_at AS session_ended_at FROM leases LEFT JOIN sessions ON sessions.id = leases.session`;
function leaseOf(row: LeaseAndSession): Lease {
  const lease = rows.leaseOf(row);
  if (row.session_state !== 'ended') return lease;
  const ending = row.session_ending as Session['ending'];
  return inEffect(lease, { state: 'ended', ending, endedAt: row.session_ended_at });
}

/** What is read outside of decisions. Each call is one consistent look: SQLite answers before anything else runs. */
export class SqliteReader implements Reader {
  readonly #connection: Connection;
  readonly #epoch: string;
  readonly #usage: Usage;
  readonly #statements = new Map<string, ReturnType<Connection['prepare']>>();

  constructor(connection: Connection, epoch: string, usage = new Usage(connection)) {
    this.#connection = connection;
    this.#epoch = epoch;
    this.#usage = usage;
  }

  async epoch(): Promise<string> {
    return this.#epoch;
  }

  async revision(): Promise<number> {
    return this.#revision();
  }

  async oldestRevision(): Promise<number> {
    return this.#one<{ oldest: number | null }>('SELECT min(revision) AS oldest FROM events')?.oldest ?? 1;
  }

  async pool(id: string): Promise<Pool | undefined> {
    return map(this.#one<rows.PoolRow>('SELECT * FROM pools WHERE id = @id', { id }), rows.poolOf);
  }

  async pools(page: PageRequest): Promise<PageOf<Pool>> {
    return this.#page('pools', byText('id'), page, rows.poolOf);
  }

  async poolSlices(pool: string): Promise<Readonly<{ assigned: number; cooling: number }>> {
    const counts = this.#all<{ state: string; count: number }>(
      'SELECT state, count(*) AS count FROM slices WHERE pool = @pool GROUP BY state',
      { pool },
    );
    const count = (...states: string[]) =>
      counts.filter((row) => states.includes(row.state)).reduce((sum, row) => sum + row.count, 0);
    return { assigned: count('assigning', 'assigned', 'draining'), cooling: count('cooling') };
  }

  async machine(id: string): Promise<Machine | undefined> {
    return this.#machine(id);
  }

  async machines(page: PageRequest): Promise<PageOf<Machine>> {
    return this.#page('machines', byText('id'), page, rows.machineOf);
  }

  async holder(machine: string, name: string): Promise<Holder | undefined> {
    const sql = 'SELECT * FROM holders WHERE machine = @machine AND name = @name';
    return map(this.#one<rows.HolderRow>(sql, { machine, name }), rows.holderOf);
  }

  async holders(machine: string, page: PageRequest): Promise<PageOf<Holder>> {
    return this.#page('holders', byText('name'), page, rows.holderOf, { machine });
  }

  async slice(id: number): Promise<Slice | undefined> {
    return map(this.#one<rows.SliceRow>('SELECT * FROM slices WHERE id = @id', { id }), rows.sliceOf);
  }

  async slices(filter: SliceFilter, page: PageRequest): Promise<PageOf<Slice>> {
    const { machine, address } = filter;
    return this.#page('slices', byNumber, page, rows.sliceOf, defined({ machine, address }), filter);
  }

  async tiling(slice: number): Promise<Readonly<{ extents: readonly Extent[]; leases: readonly Lease[] }>> {
    const extents = this.#all<rows.ExtentRow>(
      'SELECT * FROM extents WHERE slice = @slice ORDER BY protocol, first_port',
      { slice },
    );
    const leases = this.#all<LeaseAndSession>(
      `${leaseSelect} WHERE leases.slice = @slice AND leases.ended_at IS NULL
       ORDER BY leases.protocol, leases.first_port, leases.id`,
      { slice },
    );
    return { extents: extents.map(rows.extentOf), leases: leases.map(leaseOf) };
  }

  async session(id: number): Promise<Session | undefined> {
    return map(this.#one<rows.SessionRow>('SELECT * FROM sessions WHERE id = @id', { id }), rows.sessionOf);
  }

  async sessions(filter: SessionFilter, page: PageRequest): Promise<PageOf<Session>> {
    const { machine } = filter;
    return this.#page('sessions', byNumber, page, rows.sessionOf, defined({ machine }), filter);
  }

  async lease(id: number): Promise<Lease | undefined> {
    return map(this.#one<LeaseAndSession>(`${leaseSelect} WHERE leases.id = @id`, { id }), leaseOf);
  }

  async leases(filter: LeaseFilter, page: PageRequest): Promise<PageOf<Lease>> {
    return scan(page, byNumber, filter, leaseOf, (after, limit): LeaseAndSession[] => {
      const { session, machine } = filter;
      const part = (where: string) =>
        `${leaseSelect} WHERE ${where} AND leases.id > @after ORDER BY leases.id LIMIT @limit`;
      if (session !== undefined) return this.#all(part('leases.session = @session'), { session, after, limit });
      if (machine === undefined) return this.#all(part('true'), { after, limit });
      // Live and past leases of a machine are in an index each, so that the past weighs nothing on the live.
      const half = (is: string) => `SELECT * FROM (${part(`leases.machine = @machine AND leases.ended_at IS ${is}`)})`;
      const both = `${half('NULL')} UNION ALL ${half('NOT NULL')} ORDER BY id LIMIT @limit`;
      return this.#all(both, { machine, after, limit });
    });
  }

  async desired(id: string): Promise<DesiredState | undefined> {
    const machine = this.#machine(id);
    if (!machine) return undefined;
    const slices = this.#all<rows.SliceRow>(
      `SELECT * FROM slices WHERE machine = @id AND state IN ('assigning', 'assigned', 'draining') ORDER BY id`,
      { id },
    );
    const leases = this.#all<LeaseAndSession>(
      `${leaseSelect} WHERE leases.machine = @id AND leases.ended_at IS NULL
       AND leases.state IN ('pending', 'active', 'ending') ORDER BY leases.id`,
      { id },
    );
    return {
      revision: this.#revision(),
      machine,
      pools: this.#all<rows.PoolRow>('SELECT * FROM pools ORDER BY id').map(rows.poolOf),
      slices: slices.map(rows.sliceOf),
      holders: this.#all<rows.HolderRow>('SELECT * FROM holders WHERE machine = @id ORDER BY name', { id }).map(
        rows.holderOf,
      ),
      leases: leases.map(leaseOf),
    };
  }

  async eventsAfter(revision: number, machine: string | null, limit: number): Promise<readonly Event[]> {
    // Two ranges of one index, merged by revision: events of the machine, and those that concern everybody.
    const part = (where: string) =>
      `SELECT * FROM (SELECT * FROM events WHERE ${where} AND revision > @revision ORDER BY revision LIMIT @limit)`;
    const sql =
      machine === null
        ? part('true')
        : `${part('machine = @machine')} UNION ALL ${part('machine IS NULL')} ORDER BY revision LIMIT @limit`;
    const parameters = machine === null ? { revision, limit } : { revision, machine, limit };
    return this.#all<rows.EventRow>(sql, parameters).map(rows.eventOf);
  }

  async tenureAt(address: Address, port: number, at: number): ReturnType<Reader['tenureAt']> {
    const slice = this.#one<rows.SliceRow>(
      'SELECT * FROM slices WHERE address = @address AND first_port <= @port ORDER BY first_port DESC LIMIT 1',
      { address, port },
    );
    if (!slice || slice.last_port < port) return undefined;
    const tenure = this.#one<rows.TenureRow>(
      `SELECT * FROM tenures WHERE slice = @slice AND from_at <= @at AND (until_at IS NULL OR until_at > @at)
       ORDER BY generation DESC LIMIT 1`,
      { slice: slice.id, at },
    );
    return tenure && { tenure: rows.tenureOf(tenure), slice: rows.sliceOf(slice) };
  }

  async leasesAt(
    slice: number,
    generation: number,
    protocol: Protocol,
    port: number,
    at: number,
  ): Promise<readonly Lease[]> {
    // Leases are aligned blocks: the one with this port begins at the port with some of its low bits cleared.
    const firsts = new Set(Array.from({ length: 17 }, (_, order) => (order === 16 ? 0 : port & blockMask(2 ** order))));
    const part = (ended: string) =>
      `${leaseSelect} WHERE leases.slice = @slice AND leases.protocol = @protocol
       AND leases.first_port IN (${[...firsts].join(', ')}) AND leases.ended_at ${ended}
       AND leases.generation = @generation AND leases.last_port >= @port AND leases.granted_at <= @at
       AND coalesce(leases.empty_at, leases.ended_at, @at + 1) > @at`;
    const sql = `${part('IS NULL')} UNION ALL ${part('> @at')} ORDER BY id`;
    return this.#all<LeaseAndSession>(sql, { slice, generation, protocol, port, at }).map(leaseOf);
  }

  async accessToken(hash: string): Promise<AccessToken | undefined> {
    const sql = 'SELECT * FROM access_tokens WHERE hash = @hash';
    return map(this.#one<rows.AccessTokenRow>(sql, { hash }), rows.accessTokenOf);
  }

  async accessTokens(page: PageRequest): Promise<PageOf<AccessToken>> {
    return this.#page('access_tokens', byNumber, page, rows.accessTokenOf);
  }

  async usage(): Promise<readonly UsageRow[]> {
    return this.#usage.rows();
  }

  #machine(id: string): Machine | undefined {
    return map(this.#one<rows.MachineRow>('SELECT * FROM machines WHERE id = @id', { id }), rows.machineOf);
  }

  #revision(): number {
    return this.#one<{ revision: number | null }>('SELECT max(revision) AS revision FROM events')?.revision ?? 0;
  }

  /** One page of a table in the order of `key`; `where` is what an index finds, `filter` what is looked at row by row. */
  // eslint-disable-next-line @typescript-eslint/no-unnecessary-type-parameters -- the caller says what the SQL yields
  #page<Row extends rows.AnyRow, Item>(
    table: string,
    key: Key,
    page: PageRequest,
    itemOf: (row: Row) => Item,
    where: Readonly<Record<string, string>> = {},
    filter?: Readonly<Partial<Item>>,
  ): PageOf<Item> {
    const conditions = Object.keys(where).map((column) => `${column} = @${column}`);
    const all = [...conditions, `${key.column} > @after`].join(' AND ');
    const sql = `SELECT * FROM ${table} WHERE ${all} ORDER BY ${key.column} LIMIT @limit`;
    return scan(page, key, filter, itemOf, (after, limit) => this.#all<Row>(sql, { ...where, after, limit }));
  }

  // eslint-disable-next-line @typescript-eslint/no-unnecessary-type-parameters -- the caller says what the SQL yields
  #one<Row>(sql: string, parameters: Parameters = {}): Row | undefined {
    return this.#prepared(sql).get(parameters) as Row | undefined;
  }

  #all<Row>(sql: string, parameters: Parameters = {}): Row[] {
    return this.#prepared(sql).all(parameters) as Row[];
  }

  /** Prepared once per text; the texts are few, because filters only add conditions to them. */
  #prepared(sql: string): ReturnType<Connection['prepare']> {
    let statement = this.#statements.get(sql);
    if (!statement) this.#statements.set(sql, (statement = this.#connection.prepare(sql)));
    return statement;
  }
}

const map = <A, B>(value: A | undefined, to: (value: A) => B): B | undefined =>
  value === undefined ? undefined : to(value);
