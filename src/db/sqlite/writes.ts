import type { Changes } from '../../leases/view.ts';
import { changedRows, type WrittenTable } from '../changed-rows.ts';
import { RowWriter } from './row-writer.ts';
import * as schema from './schema.ts';
import type { Connection } from './statements.ts';

/** Writes what a batch changed. To be called inside the transaction that loaded its view. */
export class Writes {
  readonly #connection: Connection;
  readonly #writers = new Map<WrittenTable, RowWriter>();

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  apply(changes: Changes): void {
    for (const { table, deleted, updated, inserted } of changedRows(changes)) {
      for (const row of deleted) this.#writer(table).delete(row);
      for (const { before, after } of updated) this.#writer(table).update(before, after);
      for (const row of inserted) this.#writer(table).insert(row);
    }
  }

  #writer(table: WrittenTable): RowWriter {
    let writer = this.#writers.get(table);
    if (!writer) this.#writers.set(table, (writer = new RowWriter(this.#connection, schema[table])));
    return writer;
  }
}
