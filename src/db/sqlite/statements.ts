import type Database from 'better-sqlite3';
import type { AnyRow, Read, Statement } from '../statement.ts';

export type Connection = Database.Database;

/** Runs statements that were written for both databases: SQLite knows `@name` by itself. */
export class Statements {
  readonly #connection: Connection;
  /** Prepared once per text; the texts are few, because filters only add conditions to them. */
  readonly #prepared = new Map<string, Database.Statement<unknown[], AnyRow>>();

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  all({ sql, parameters }: Statement): readonly AnyRow[] {
    let statement = this.#prepared.get(sql);
    if (!statement) this.#prepared.set(sql, (statement = this.#connection.prepare<unknown[], AnyRow>(sql)));
    return statement.all(parameters);
  }

  /** All steps of a read before anything else can run, so on one state of the table. */
  run<T>(read: Read<T>): T {
    let step = read.next([]);
    while (step.done !== true) step = read.next(this.all(step.value));
    return step.value;
  }
}
