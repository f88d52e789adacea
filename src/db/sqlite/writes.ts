import type Database from 'better-sqlite3';
import { portsMoved } from '../../leases/usage.ts';
import type { Changes } from '../../leases/changes.ts';
import { changedRows, goneHolders, type WrittenTable } from '../changed-rows.ts';
import { RowWriter } from './row-writer.ts';
import * as schema from './schema.ts';
import type { Connection } from './statements.ts';

/** Writes what a batch changed. To be called inside the transaction that loaded its view. */
export class Writes {
  readonly #connection: Connection;
  readonly #count: Database.Statement;
  readonly #hold: Database.Statement;
  readonly #forget: Database.Statement;
  readonly #writers = new Map<WrittenTable, RowWriter>();

  constructor(connection: Connection) {
    this.#connection = connection;
    this.#count = connection.prepare(
      `INSERT INTO port_counts (pool, machine, family, protocol, state, ports)
       VALUES (@pool, @machine, @family, @protocol, @state, @ports)
       ON CONFLICT (machine, protocol, pool, family, state) DO UPDATE SET ports = ports + excluded.ports`,
    );
    this.#hold = connection.prepare(
      `INSERT INTO held_ports (machine, holder, protocol, ports) VALUES (@machine, @holder, @protocol, @ports)
       ON CONFLICT (machine, holder, protocol) DO UPDATE SET ports = ports + excluded.ports`,
    );
    this.#forget = connection.prepare('DELETE FROM held_ports WHERE machine = @machine AND holder = @holder');
  }

  apply(changes: Changes): void {
    for (const { table, deleted, updated, inserted } of changedRows(changes)) {
      if (deleted.length > 0) this.#writer(table).delete(deleted);
      for (const { before, after } of updated) this.#writer(table).update(before, after);
      if (inserted.length > 0) this.#writer(table).insert(inserted);
    }
    for (const moved of portsMoved(changes)) this.#count.run(moved);
    for (const moved of changes.held) this.#hold.run(moved);
    for (const holder of goneHolders(changes)) this.#forget.run(holder);
  }

  #writer(table: WrittenTable): RowWriter {
    let writer = this.#writers.get(table);
    if (!writer) this.#writers.set(table, (writer = new RowWriter(this.#connection, schema[table])));
    return writer;
  }
}
