import { getTableName } from 'drizzle-orm';
import { getTableConfig, type PgTable } from 'drizzle-orm/pg-core';
import type pg from 'pg';
import { portsMoved } from '../../leases/usage.ts';
import type { Changes } from '../../leases/changes.ts';
import { changedRows, goneHolders, type ChangedRows, type WrittenTable } from '../changed-rows.ts';
import type { AnyRow } from '../statement.ts';
import * as schema from './schema.ts';

type Verb = 'deleted' | 'updated' | 'inserted';
const verbs: readonly Verb[] = ['deleted', 'updated', 'inserted'];

/**
 * Writes what a batch changed: a statement per table and verb, whose rows are one JSON value. All are made before the first
 * is sent: where one cannot be made, none is. They are under way when this returns, in an order that the database keeps. To
 * be called inside the transaction that loaded the view.
 */
export function write(client: pg.ClientBase, changes: Changes): readonly Promise<unknown>[] {
  const steps = [
    ...changedRows(changes).flatMap(stepsOf),
    ...[countingStep, holdingStep, forgettingStep].flatMap((stepOf) => stepOf(changes)),
  ];
  const queries = steps.map(({ name, text, rows }) => ({ name, text, values: [jsonOf(rows)] }));
  return queries.map((query) => client.query(query));
}

/** Rows of one table as they are. To be called inside a transaction. */
export async function insertRows(client: pg.ClientBase, table: PgTable, rows: readonly AnyRow[]): Promise<void> {
  await client.query(writeTexts(table).inserted, [jsonOf(rows)]);
}

type Step = Readonly<{ name: string; text: string; rows: readonly AnyRow[] }>;

function stepsOf({ table, deleted, updated, inserted }: ChangedRows): readonly Step[] {
  const rowsOf: Record<Verb, readonly AnyRow[]> = { deleted, updated: updated.map(({ after }) => after), inserted };
  return verbs
    .filter((verb) => rowsOf[verb].length > 0)
    .map((verb) => ({ name: `${verb}_${table}`, text: textOf(table)[verb], rows: rowsOf[verb] }));
}

/** Ports that changed their use are added to one count and taken from another. */
function countingStep(changes: Changes): readonly Step[] {
  const rows = portsMoved(changes);
  const text = `INSERT INTO port_counts (pool, machine, family, protocol, state, ports)
    SELECT * FROM json_to_recordset($1::json)
      AS moved (pool text, machine text, family int4, protocol text, state text, ports int8)
    ON CONFLICT (machine, protocol, pool, family, state) DO UPDATE SET ports = port_counts.ports + excluded.ports`;
  return rows.length === 0 ? [] : [{ name: 'port_counts', text, rows }];
}

function holdingStep({ held: rows }: Changes): readonly Step[] {
  const text = `INSERT INTO held_ports (machine, holder, protocol, ports)
    SELECT * FROM json_to_recordset($1::json) AS moved (machine text, holder text, protocol text, ports int8)
    ON CONFLICT (machine, holder, protocol) DO UPDATE SET ports = held_ports.ports + excluded.ports`;
  return rows.length === 0 ? [] : [{ name: 'held_ports', text, rows }];
}

function forgettingStep(changes: Changes): readonly Step[] {
  const rows = goneHolders(changes);
  const text = `DELETE FROM held_ports USING json_to_recordset($1::json) AS gone (machine text, holder text)
    WHERE held_ports.machine = gone.machine AND held_ports.holder = gone.holder`;
  return rows.length === 0 ? [] : [{ name: 'held_ports_gone', text, rows }];
}

/** Text that came from clients may hold what JavaScript and SQLite take for text and PostgreSQL does not. */
const jsonOf = (rows: readonly AnyRow[]): string =>
  JSON.stringify(rows, (_, value: unknown) =>
    typeof value === 'string' ? value.toWellFormed().replaceAll('\0', '\uFFFD') : value,
  );

const texts = new Map<WrittenTable, Record<Verb, string>>();

function textOf(table: WrittenTable): Record<Verb, string> {
  let known = texts.get(table);
  if (!known) texts.set(table, (known = writeTexts(schema[table])));
  return known;
}

/** The three ways to write rows of one table, from its schema. A row that is not there as it was loaded is an error. */
export function writeTexts(table: PgTable): Record<Verb, string> {
  const name = getTableName(table);
  const { columns, primaryKeys } = getTableConfig(table);
  const keys = primaryKeys[0]?.columns ?? columns.filter((column) => column.primary);
  const names = columns.map((column) => `"${column.name}"`).join(', ');
  const typed = columns.map((column) => `"${column.name}" ${column.getSQLType().split(' ')[0] ?? ''}`).join(', ');
  const from = `json_to_recordset($1::json) AS given (${typed})`;
  const where = keys.map((key) => `stored."${key.name}" = given."${key.name}"`).join(' AND ');
  const given = columns.map((column) => `given."${column.name}"`).join(', ');
  const meeting = (step: string, sql: string): string =>
    `WITH met AS (${sql} RETURNING 1) SELECT must_meet('${step}', count(*), json_array_length($1::json)) FROM met`;
  return {
    deleted: meeting(`deleted ${name}`, `DELETE FROM ${name} AS stored USING ${from} WHERE ${where}`),
    updated: meeting(
      `updated ${name}`,
      `UPDATE ${name} AS stored SET (${names}) = ROW(${given}) FROM ${from} WHERE ${where}`,
    ),
    inserted: `INSERT INTO ${name} (${names}) SELECT ${names} FROM ${from}`,
  };
}
