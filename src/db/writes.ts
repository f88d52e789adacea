import type { Change } from '../leases/table.ts';
import type { Changes } from '../leases/view.ts';
import * as rows from './rows.ts';
import * as schema from './schema.ts';
import { RowWriter, type Connection } from './statements.ts';

/** Writes what a batch changed. To be called inside the transaction that loaded its view. */
export class Writes {
  readonly #pools: RowWriter<rows.PoolRow>;
  readonly #machines: RowWriter<rows.MachineRow>;
  readonly #holders: RowWriter<rows.HolderRow>;
  readonly #slices: RowWriter<rows.SliceRow>;
  readonly #tenures: RowWriter<rows.TenureRow>;
  readonly #sessions: RowWriter<rows.SessionRow>;
  readonly #leases: RowWriter<rows.LeaseRow>;
  readonly #extents: RowWriter<rows.ExtentRow>;
  readonly #blocks: RowWriter<rows.SharedBlockRow>;
  readonly #accessTokens: RowWriter<rows.AccessTokenRow>;
  readonly #events: RowWriter<rows.EventRow>;

  constructor(connection: Connection) {
    this.#pools = new RowWriter(connection, schema.pools);
    this.#machines = new RowWriter(connection, schema.machines);
    this.#holders = new RowWriter(connection, schema.holders);
    this.#slices = new RowWriter(connection, schema.slices);
    this.#tenures = new RowWriter(connection, schema.tenures);
    this.#sessions = new RowWriter(connection, schema.sessions);
    this.#leases = new RowWriter(connection, schema.leases);
    this.#extents = new RowWriter(connection, schema.extents);
    this.#blocks = new RowWriter(connection, schema.sharedBlocks);
    this.#accessTokens = new RowWriter(connection, schema.accessTokens);
    this.#events = new RowWriter(connection, schema.events);
  }

  /**
   * In an order in which every step leaves the slices disjoint, because triggers look: leases that go make room first,
   * then extents give way or take it, then new leases come.
   */
  apply(changes: Changes): void {
    write(this.#pools, rows.poolRow, changes.pools);
    write(this.#machines, rows.machineRow, changes.machines);
    write(this.#holders, rows.holderRow, changes.holders);
    write(this.#slices, rows.sliceRow, changes.slices);
    write(this.#tenures, rows.tenureRow, changes.tenures);
    write(this.#sessions, rows.sessionRow, changes.sessions);
    write(
      this.#leases,
      rows.leaseRow,
      changes.leases.filter(({ before }) => before !== undefined),
    );
    write(this.#extents, rows.extentRow, changes.extents);
    write(this.#blocks, rows.sharedBlockRow, changes.blocks);
    write(
      this.#leases,
      rows.leaseRow,
      changes.leases.filter(({ before }) => before === undefined),
    );
    write(this.#accessTokens, rows.accessTokenRow, changes.accessTokens);
    for (const event of changes.events) this.#events.insert(rows.eventRow(event));
  }
}

/** What leaves goes first: a row may take the place that another has just left. */
function write<Domain, Row extends rows.AnyRow>(
  writer: RowWriter<Row>,
  rowOf: (value: Domain) => Row,
  changes: readonly Change<Domain>[],
): void {
  for (const { before, after } of changes) if (before && !after) writer.delete(rowOf(before));
  for (const { before, after } of changes) if (before && after) writer.update(rowOf(before), rowOf(after));
  for (const { before, after } of changes) if (!before && after) writer.insert(rowOf(after));
}
