import type Database from 'better-sqlite3';
import { getTableColumns, getTableName, type Table } from 'drizzle-orm';
import { getTableConfig, type SQLiteTable } from 'drizzle-orm/sqlite-core';
import type { AnyRow, Value } from '../statement.ts';
import type { Connection } from './statements.ts';

/** To begin a statement, and the triggers in it, costs as much as to insert a row. More than this many save little more. */
const rows_per_statement = 8;

/**
 * The ways to write one kind of row, prepared once. Column names and keys come from the Drizzle schema; the query builder
 * itself is not on the path, because building a statement costs more than running it.
 */
export class RowWriter {
  readonly #connection: Connection;
  readonly #name: string;
  readonly #columns: readonly string[];
  readonly #keys: readonly string[];
  readonly #insert: Database.Statement;
  readonly #insertMany: Database.Statement;
  readonly #delete: Database.Statement;
  readonly #deleteMany: Database.Statement;
  /** By the columns that they set: there are as many as there are kinds of change, a handful. */
  readonly #updates = new Map<string, Database.Statement>();

  constructor(connection: Connection, table: SQLiteTable) {
    this.#connection = connection;
    this.#name = getTableName(table);
    this.#columns = Object.values(getTableColumns(table as Table)).map((column) => column.name);
    this.#keys = keyColumns(table);
    const marks = `(${this.#columns.map(() => '?').join(', ')})`;
    const insert = `INSERT INTO ${this.#name} (${this.#columns.join(', ')}) VALUES`;
    this.#insert = connection.prepare(`${insert} ${marks}`);
    this.#insertMany = connection.prepare(`${insert} ${Array(rows_per_statement).fill(marks).join(', ')}`);
    const key = `(${this.#keys.map(() => '?').join(', ')})`;
    const keyed = `DELETE FROM ${this.#name} WHERE (${this.#keys.join(', ')}) IN (VALUES`;
    this.#delete = connection.prepare(`${keyed} ${key})`);
    this.#deleteMany = connection.prepare(`${keyed} ${Array(rows_per_statement).fill(key).join(', ')})`);
  }

  /** In order. */
  insert(rows: readonly AnyRow[]): void {
    for (const some of portions(rows))
      statementFor(some, this.#insert, this.#insertMany).run(valuesOf(some, this.#columns));
  }

  /** Sets what differs, and only that: an index over columns that stay the same is not touched. */
  update(before: AnyRow, after: AnyRow): void {
    const changed = this.#columns.filter((column) => before[column] !== after[column]);
    if (changed.length === 0) return;
    const { changes } = this.#updateOf(changed).run([...valuesOf([after], changed), ...valuesOf([before], this.#keys)]);
    if (changes !== 1) throw new Error(`an update of ${this.#name} met ${changes} rows instead of one`);
  }

  delete(rows: readonly AnyRow[]): void {
    for (const some of portions(rows)) {
      const { changes } = statementFor(some, this.#delete, this.#deleteMany).run(valuesOf(some, this.#keys));
      if (changes !== some.length)
        throw new Error(`a deletion from ${this.#name} met ${changes} rows instead of ${some.length}`);
    }
  }

  #updateOf(columns: readonly string[]): Database.Statement {
    const assignments = equal(columns, ', ');
    let statement = this.#updates.get(assignments);
    if (!statement) {
      statement = this.#connection.prepare(
        `UPDATE ${this.#name} SET ${assignments} WHERE ${equal(this.#keys, ' AND ')}`,
      );
      this.#updates.set(assignments, statement);
    }
    return statement;
  }
}

const equal = (columns: readonly string[], between: string): string =>
  columns.map((column) => `${column} = ?`).join(between);

const statementFor = (
  rows: readonly AnyRow[],
  one: Database.Statement,
  many: Database.Statement,
): Database.Statement => (rows.length === rows_per_statement ? many : one);

/** As many rows at a time as a statement takes; what is left over one by one. */
function* portions(rows: readonly AnyRow[]): Generator<readonly AnyRow[]> {
  let next = 0;
  for (; next + rows_per_statement <= rows.length; next += rows_per_statement)
    yield rows.slice(next, next + rows_per_statement);
  for (const row of rows.slice(next)) yield [row];
}

function valuesOf(rows: readonly AnyRow[], columns: readonly string[]): Value[] {
  const values: Value[] = [];
  for (const row of rows)
    for (const column of columns) {
      const value = row[column];
      if (value === undefined) throw new Error(`the row has no ${column}`);
      values.push(value);
    }
  return values;
}

function keyColumns(table: SQLiteTable): readonly string[] {
  const { columns, primaryKeys } = getTableConfig(table);
  const composite = primaryKeys[0]?.columns.map((column) => column.name);
  return composite ?? columns.filter((column) => column.primary).map((column) => column.name);
}
