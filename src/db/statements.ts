import type Database from 'better-sqlite3';
import { getTableColumns, getTableName, type Table } from 'drizzle-orm';
import { getTableConfig, type SQLiteTable } from 'drizzle-orm/sqlite-core';

export type Connection = Database.Database;
type Value = string | number | null;
type AnyRow = Readonly<Record<string, Value>>;

/**
 * The three ways to write one kind of row, prepared once. Column names and keys come from the Drizzle schema; the query
 * builder itself is not on the path, because building a statement costs more than running it.
 */
export class RowWriter<Row extends AnyRow> {
  readonly #columns: readonly string[];
  readonly #keys: readonly string[];
  readonly #insert: Database.Statement;
  readonly #update: Database.Statement;
  readonly #delete: Database.Statement;

  constructor(connection: Connection, table: SQLiteTable) {
    const name = getTableName(table);
    const columns = Object.values(getTableColumns(table as Table)).map((column) => column.name);
    const keys = keyColumns(table);
    const where = keys.map((key) => `${key} = ?`).join(' AND ');
    this.#columns = columns;
    this.#keys = keys;
    this.#insert = connection.prepare(
      `INSERT INTO ${name} (${columns.join(', ')}) VALUES (${columns.map(() => '?').join(', ')})`,
    );
    this.#update = connection.prepare(
      `UPDATE ${name} SET ${columns.map((column) => `${column} = ?`).join(', ')} WHERE ${where}`,
    );
    this.#delete = connection.prepare(`DELETE FROM ${name} WHERE ${where}`);
  }

  insert(row: Row): void {
    this.#insert.run(this.#values(row, this.#columns));
  }

  update(row: Row): void {
    const { changes } = this.#update.run([...this.#values(row, this.#columns), ...this.#values(row, this.#keys)]);
    if (changes !== 1) throw new Error(`an update met ${changes} rows instead of one`);
  }

  delete(row: Row): void {
    const { changes } = this.#delete.run(this.#values(row, this.#keys));
    if (changes !== 1) throw new Error(`a deletion met ${changes} rows instead of one`);
  }

  #values(row: Row, columns: readonly string[]): Value[] {
    return columns.map((column) => {
      const value = row[column];
      if (value === undefined) throw new Error(`the row has no ${column}`);
      return value;
    });
  }
}

function keyColumns(table: SQLiteTable): readonly string[] {
  const { columns, primaryKeys } = getTableConfig(table);
  const composite = primaryKeys[0]?.columns.map((column) => column.name);
  return composite ?? columns.filter((column) => column.primary).map((column) => column.name);
}
