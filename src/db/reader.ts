import { prefixContains } from '../net/prefix.ts';
import { matches, type Selector } from '../net/selector.ts';
import { common, steering } from '../leases/model.ts';
import type {
  AccessToken,
  AuditEntry,
  Epoch,
  Event,
  Holder,
  Interest,
  Lease,
  Machine,
  Pool,
  Revocation,
  Router,
  Session,
  Slice,
  Tenure,
} from '../leases/model.ts';
import type {
  AuditFilter,
  DesiredState,
  DrainingSlices,
  EndingLeases,
  HolderFilter,
  LabelFilter,
  LeaseFilter,
  MachineFilter,
  PageOf,
  PageRequest,
  PastLease,
  PastUse,
  PoolFilter,
  PortInstant,
  Reader,
  ReportedLeaseFilter,
  ReportedSessionFilter,
  RevocationFilter,
  RouterFilter,
  SessionFilter,
  SliceFilter,
  TokenFilter,
  Tiling,
  Unapplied,
  WaitingSlices,
  UsageRow,
  UsesFilter,
} from '../leases/store.ts';
import type { Broker, ReportedLease, ReportedSession } from '../leases/reported.ts';
import { brokerOf } from './reported-rows.ts';
import * as rows from './rows.ts';
import { labelsMatch, withLabels } from './labelled.ts';
import { byNumber, byText, defined, scan, type Filter, type Key } from './paging.ts';
import {
  desired,
  epoch,
  leaseReader,
  leaseSelect,
  machine,
  revision,
  tiling,
  type LeaseAndSession,
} from './composed-reads.ts';
import { auditLog } from './audit-log.ts';
import * as reported from './reported-reads.ts';
import { brokerNamed } from './reported-history.ts';
import { leasesEnding } from './ending-leases.ts';
import { historySince, machineAllocated, uses, whoHad } from './history.ts';
import { all, map, one, type AnyRow, type Parameters, type Read } from './statement.ts';

/** Whether the labels of a thing are as asked. */
const bears = ({ labels }: Pick<Pool, 'labels'>, selector: Selector | undefined): boolean =>
  selector === undefined || matches(selector, labels);

/** How a database carries out reads. It may have to begin one again: what is handed over makes it. */
export type Reads = Readonly<{
  run: <T>(read: () => Read<T>) => Promise<T>;
  /** Several statements that must see one state of the table. */
  snapshot: <T>(read: () => Read<T>) => Promise<T>;
}>;

/** What is read outside of decisions; written once for both databases. */
export class SqlReader implements Reader {
  readonly #reads: Reads;

  constructor(reads: Reads) {
    this.#reads = reads;
  }

  epoch(): Promise<Epoch> {
    return this.#reads.run(epoch);
  }

  async epochs(): Promise<readonly Epoch[]> {
    return (await this.#all<rows.EpochRow>('SELECT * FROM epochs ORDER BY number')).map(rows.epochOf);
  }

  revision(): Promise<number> {
    return this.#reads.run(revision);
  }

  async oldestRevision(): Promise<number> {
    return (await this.#one<{ oldest: number | null }>('SELECT min(revision) AS oldest FROM events'))?.oldest ?? 1;
  }

  async pool(id: string): Promise<Pool | undefined> {
    return map(await this.#one<rows.PoolRow>('SELECT * FROM pools WHERE id = @id', { id }), rows.poolOf);
  }

  pools({ labels, address }: PoolFilter, page: PageRequest): Promise<PageOf<Pool>> {
    const isMeant = (pool: Pool) =>
      bears(pool, labels) && (address === undefined || pool.prefixes.some((prefix) => prefixContains(prefix, address)));
    return this.#page('pools', byText('id'), page, rows.poolOf, {}, { isMeant });
  }

  async poolSlices(pool: string): Promise<Readonly<{ assigned: number; cooling: number }>> {
    const counts = await this.#all<{ state: string; count: number }>(
      'SELECT state, count(*) AS count FROM slices WHERE pool = @pool GROUP BY state',
      { pool },
    );
    const count = (...states: string[]) =>
      counts.filter((row) => states.includes(row.state)).reduce((sum, row) => sum + row.count, 0);
    return { assigned: count('assigning', 'assigned', 'draining'), cooling: count('cooling') };
  }

  leasesEnding(machinesMax: number, leasesMax: number): Promise<readonly EndingLeases[]> {
    return this.#reads.snapshot(() => leasesEnding(machinesMax, leasesMax));
  }

  slicesDraining(): Promise<readonly DrainingSlices[]> {
    return this.#all<DrainingSlices>(
      `SELECT pool, machine, count(*) AS slices, min(draining_since) AS since FROM slices WHERE state = 'draining'
       GROUP BY pool, machine ORDER BY pool, machine`,
      {},
    );
  }

  slicesWaiting(): Promise<readonly WaitingSlices[]> {
    return this.#all<WaitingSlices>(
      `SELECT pool, route, count(*) AS slices FROM slices WHERE route IN ('adding', 'removing') GROUP BY pool, route`,
      {},
    );
  }

  machine(id: string): Promise<Machine | undefined> {
    return this.#reads.run(() => machine(id));
  }

  machines({ labels, ...fields }: MachineFilter, page: PageRequest): Promise<PageOf<Machine>> {
    const isMeant = (found: Machine) => bears(found, labels);
    return this.#page('machines', byText('id'), page, rows.machineOf, {}, { fields, isMeant });
  }

  async holder(on: string, name: string): Promise<Holder | undefined> {
    const sql = 'SELECT * FROM holders WHERE machine = @machine AND name = @name';
    return map(await this.#one<rows.HolderRow>(sql, { machine: on, name }), rows.holderOf);
  }

  holders(on: string, fields: HolderFilter, page: PageRequest): Promise<PageOf<Holder>> {
    return this.#page('holders', byText('name'), page, rows.holderOf, { machine: on }, { fields });
  }

  async slice(id: number): Promise<Slice | undefined> {
    return map(await this.#one<rows.SliceRow>('SELECT * FROM slices WHERE id = @id', { id }), rows.sliceOf);
  }

  slices(filter: SliceFilter, page: PageRequest): Promise<PageOf<Slice>> {
    const { poolLabels: _pool, machineLabels: _machine, ...fields } = filter;
    const where = defined({ machine: filter.machine, address: filter.address });
    return this.#page('slices', byNumber, page, rows.sliceOf, where, { fields }, filter);
  }

  tiling(slice: number): Promise<Tiling> {
    return this.#reads.snapshot(() => tiling(slice));
  }

  async session(id: number): Promise<Session | undefined> {
    return map(await this.#one<rows.SessionRow>('SELECT * FROM sessions WHERE id = @id', { id }), rows.sessionOf);
  }

  sessions(filter: SessionFilter, page: PageRequest): Promise<PageOf<Session>> {
    const { machineLabels: _machine, ...fields } = filter;
    return this.#page(
      'sessions',
      byNumber,
      page,
      rows.sessionOf,
      defined({ machine: filter.machine }),
      { fields },
      filter,
    );
  }

  async lease(id: number): Promise<Lease | undefined> {
    return this.#reads.run(function* () {
      const leaseOf = yield* leaseReader();
      return map(yield* one<LeaseAndSession>(`${leaseSelect} WHERE leases.id = @id`, { id }), leaseOf);
    });
  }

  leases(filter: LeaseFilter, page: PageRequest): Promise<PageOf<Lease>> {
    const { poolLabels: _pool, machineLabels: _machine, ...fields } = filter;
    const { session, machine: on, slice, state } = fields;
    const isLive = state !== undefined && state !== 'ended' && state !== 'refused';
    const part = (where: string) =>
      `${leaseSelect} WHERE ${where} AND leases.id > @after ORDER BY leases.id LIMIT @limit`;
    const list = (sql: string, parameters: Parameters) => all<LeaseAndSession>(withLabels(sql, filter), parameters);
    const read = (after: string | number, limit: number): Read<readonly LeaseAndSession[]> => {
      if (session === null) return list(part('leases.session IS NULL'), { after, limit });
      // Some leases are in an index each: those of a session that have to be ended with it and those that have not; those of
      // a machine that are live and those that are over, so that the past weighs nothing on the live.
      const half = (where: string, name: string) => `SELECT * FROM (${part(where)}) AS ${name}`;
      const both = (one: string, other: string) =>
        `${half(one, 'one')} UNION ALL ${half(other, 'the_other')} ORDER BY id LIMIT @limit`;
      if (session !== undefined) {
        const its = (isIn: 'IN' | 'NOT IN') =>
          `leases.session = @session AND leases.state ${isIn} ('pending', 'active')`;
        return list(both(its('IN'), its('NOT IN')), { session, after, limit });
      }
      // What is live on a slice is no more than it has ports; what was may be without end, and is looked for in order.
      if (slice !== undefined && isLive)
        return list(part('leases.slice = @slice AND leases.ended_at IS NULL'), { slice, after, limit });
      if (on === undefined) return list(part('true'), { after, limit });
      const its = (is: 'NULL' | 'NOT NULL') => `leases.machine = @machine AND leases.ended_at IS ${is}`;
      if (isLive) return list(part(its('NULL')), { machine: on, after, limit });
      return list(both(its('NULL'), its('NOT NULL')), { machine: on, after, limit });
    };
    return this.#reads.run(function* () {
      return yield* scan(page, byNumber, { fields, isMeant: labelsMatch(filter) }, yield* leaseReader(), read);
    });
  }

  async revocation(id: number): Promise<Revocation | undefined> {
    const sql = 'SELECT * FROM revocations WHERE id = @id';
    return map(await this.#one<rows.RevocationRow>(sql, { id }), rows.revocationOf);
  }

  revocations(filter: RevocationFilter, page: PageRequest): Promise<PageOf<Revocation>> {
    return this.#page('revocations', byNumber, page, rows.revocationOf, {}, { fields: filter });
  }

  desired(id: string): Promise<DesiredState | undefined> {
    return this.#reads.snapshot(() => desired(id));
  }

  async eventsAfter(after: number, interest: Interest, limit: number): Promise<readonly Event[]> {
    // Two ranges of one index, merged by revision: events of the machine, and those that concern everybody.
    const part = (where: string, name: string) =>
      `SELECT * FROM (
         SELECT * FROM events WHERE ${where} AND revision > @revision ORDER BY revision LIMIT @limit) AS ${name}`;
    const sql =
      interest === null
        ? part('true', 'log')
        : interest === steering
          ? part('steering = 1', 'routes')
          : `${part('machine = @machine', 'its')} UNION ALL ${part('machine IS NULL', 'common')}
           ORDER BY revision LIMIT @limit`;
    const parameters = {
      revision: after,
      limit,
      // What no machine is told of stands under an empty name.
      ...(interest === null || interest === steering ? {} : { machine: interest === common ? '' : interest }),
    };
    return (await this.#all<rows.EventRow>(sql, parameters)).map(rows.eventOf);
  }

  whoHad(question: PortInstant): Promise<PastUse> {
    return this.#reads.snapshot(() => whoHad(question));
  }

  uses(of: UsesFilter, page: PageRequest): Promise<PageOf<PastLease>> {
    return this.#reads.snapshot(() => uses(of, page));
  }

  machineAllocated(of: UsesFilter, limit: number): Promise<readonly Tenure[]> {
    return this.#reads.run(() => machineAllocated(of, limit));
  }

  broker(on: string): Promise<Broker | undefined> {
    return this.#reads.run(() => brokerNamed(on));
  }

  brokers(page: PageRequest): Promise<PageOf<Broker>> {
    return this.#page('brokers', byText('machine'), page, brokerOf);
  }

  reportedLease(on: string, id: number, now: number): Promise<ReportedLease | undefined> {
    return this.#reads.snapshot(() => reported.lease(on, id, now));
  }

  reportedLeases(
    on: string,
    filter: ReportedLeaseFilter,
    now: number,
    page: PageRequest,
  ): Promise<PageOf<ReportedLease>> {
    return this.#reads.snapshot(() => reported.leases(on, filter, now, page));
  }

  reportedLeft(revocation: Revocation): Promise<number> {
    return this.#reads.run(() => reported.leftOf(revocation));
  }

  reportedSession(on: string, id: number): Promise<ReportedSession | undefined> {
    return this.#reads.snapshot(() => reported.session(on, id));
  }

  reportedSessions(on: string, filter: ReportedSessionFilter, page: PageRequest): Promise<PageOf<ReportedSession>> {
    return this.#reads.snapshot(() => reported.sessions(on, filter, page));
  }

  historySince(): Promise<number | null> {
    return this.#reads.run(historySince);
  }

  async router(id: string): Promise<Router | undefined> {
    return map(await this.#one<rows.RouterRow>('SELECT * FROM routers WHERE id = @id', { id }), rows.routerOf);
  }

  routers({ labels }: RouterFilter, page: PageRequest): Promise<PageOf<Router>> {
    const isMeant = (router: Router) => bears(router, labels);
    return this.#page('routers', byText('id'), page, rows.routerOf, {}, { isMeant });
  }

  async accessToken(hash: string): Promise<AccessToken | undefined> {
    // In the order of the branches: a hash is somebody's secret now, or was until the last rotation.
    const sql = `SELECT * FROM access_tokens WHERE hash = @hash
      UNION ALL SELECT * FROM access_tokens WHERE former_hash = @hash`;
    return map(await this.#one<rows.AccessTokenRow>(sql, { hash }), rows.accessTokenOf);
  }

  async accessTokenById(id: number): Promise<AccessToken | undefined> {
    const sql = 'SELECT * FROM access_tokens WHERE id = @id';
    return map(await this.#one<rows.AccessTokenRow>(sql, { id }), rows.accessTokenOf);
  }

  audit(filter: AuditFilter, page: PageRequest): Promise<PageOf<AuditEntry>> {
    return this.#reads.run(() => auditLog(filter, page));
  }

  accessTokens(filter: TokenFilter, page: PageRequest): Promise<PageOf<AccessToken>> {
    return this.#page('access_tokens', byNumber, page, rows.accessTokenOf, {}, { fields: filter });
  }

  usage(): Promise<readonly UsageRow[]> {
    return this.#all<UsageRow>('SELECT * FROM port_counts WHERE ports <> 0');
  }

  async oldestUnapplied(limit: number): Promise<readonly Unapplied[]> {
    // A step in the index of the log for each machine, and one for what concerns them all.
    const firstOf = (concerned: string) =>
      `(SELECT at FROM events WHERE ${concerned} AND revision > machines.applied_revision ORDER BY revision LIMIT 1)`;
    const rowsFound = await this.#all<{ machine: string; own_at: number | null; common_at: number | null }>(
      `SELECT id AS machine, ${firstOf('machine = machines.id')} AS own_at, ${firstOf('machine IS NULL')} AS common_at
       FROM machines WHERE boot_id IS NOT NULL ORDER BY id LIMIT @limit`,
      { limit },
    );
    return rowsFound.map(({ machine: id, own_at: own, common_at: common }) => ({
      machine: id,
      at: own === null || common === null ? (own ?? common) : Math.min(own, common),
    }));
  }

  /** One page of a table in the order of `key`; `where` is what an index finds, `filter` and `labels` what is looked at row by row. */
  #page<Row extends AnyRow, Item>(
    table: string,
    key: Key,
    page: PageRequest,
    itemOf: (row: Row) => Item,
    where: Readonly<Record<string, string>> = {},
    filter: Filter<Row, Item> = {},
    labels: LabelFilter = {},
  ): Promise<PageOf<Item>> {
    const conditions = Object.keys(where).map((column) => `${column} = @${column}`);
    const every = [...conditions, `${key.column} > @after`].join(' AND ');
    const sql = withLabels(`SELECT * FROM ${table} WHERE ${every} ORDER BY ${key.column} LIMIT @limit`, labels);
    const read = (after: string | number, limit: number) => all<Row>(sql, { ...where, after, limit });
    const meant = { isMeant: labelsMatch(labels), ...filter };
    return this.#reads.run(() => scan(page, key, meant, itemOf, read));
  }

  #one<Row>(sql: string, parameters?: Parameters): Promise<Row | undefined> {
    return this.#reads.run(() => one<Row>(sql, parameters));
  }

  #all<Row>(sql: string, parameters?: Parameters): Promise<readonly Row[]> {
    return this.#reads.run(() => all<Row>(sql, parameters));
  }
}
