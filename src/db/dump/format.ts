import { fileURLToPath } from 'node:url';
import { err, ok, type Result } from '../../net/result.ts';
import { stepsIn } from '../migration-steps.ts';
import type { AnyRow } from '../statement.ts';
import { tableShapes, type TableShape } from '../tables.ts';

/**
 * A dump is lines of JSON: a header, one line for each row, table by table, and an end that counts them, so that a dump
 * that was cut off is not taken for a whole one. Columns are those of the tables, the same on both databases.
 */

const formatNumber = 1;

export type Header = Readonly<{
  /** The last step of the migrations: rows are as it left the tables. */
  schema: string;
  revision: number;
}>;

export type Line =
  | Readonly<{ is: 'header'; header: Header }>
  | Readonly<{ is: 'row'; shape: TableShape; row: AnyRow }>
  | Readonly<{ is: 'end'; counts: Readonly<Record<string, unknown>> }>;

/** Which schema the code has: the steps have the same names on both databases. */
export const schemaStep = (): string =>
  stepsIn(fileURLToPath(new URL('../../../migrations/sqlite', import.meta.url))).at(-1) ?? '';

export const headerLine = ({ schema, revision }: Header): string =>
  JSON.stringify({ fishery_dump: formatNumber, schema, revision });

export const rowLine = ({ name, columns }: TableShape, row: AnyRow): string =>
  JSON.stringify({ table: name, row: Object.fromEntries(columns.map((column) => [column.name, row[column.name]])) });

export const footerLine = (counts: Readonly<Record<string, number>>): string =>
  JSON.stringify({ end: true, rows: counts });

/** What a line says, or what is wrong with it. */
export function parseLine(text: string): Result<Line, string> {
  const parsed = parseObject(text);
  if (!parsed) return err('it is not an object in JSON');
  if ('fishery_dump' in parsed) return parseHeader(parsed);
  if (parsed['end'] === true && isObject(parsed['rows'])) return ok({ is: 'end', counts: parsed['rows'] });
  const { table, row } = parsed;
  const shape = tableShapes.find(({ name }) => name === table);
  if (!shape || !isObject(row)) return err('it is neither a header, nor a row of a table, nor the end');
  const wrong = whatIsWrong(shape, row);
  // Each column was just looked at.
  return wrong === undefined ? ok({ is: 'row', shape, row: row as AnyRow }) : err(wrong);
}

function parseHeader(line: Readonly<Record<string, unknown>>): Result<Line, string> {
  const { fishery_dump: format, schema, revision } = line;
  if (format !== formatNumber) return err(`its format is ${String(format)}, this Fishery reads ${formatNumber}`);
  if (typeof schema !== 'string' || !isCount(revision)) return err('the header is damaged');
  return ok({ is: 'header', header: { schema, revision } });
}

function whatIsWrong({ name, columns }: TableShape, row: Readonly<Record<string, unknown>>): string | undefined {
  const known = new Set(columns.map((column) => column.name));
  const unknown = Object.keys(row).find((key) => !known.has(key));
  if (unknown !== undefined) return `${name} has no column ${unknown}`;
  for (const column of columns) {
    const value = row[column.name];
    const fits = column.kind === 'text' ? typeof value === 'string' : Number.isSafeInteger(value);
    if (!fits && !(value === null && column.optional))
      return `${name}.${column.name}: ${column.kind === 'text' ? 'text' : 'a whole number'} is expected`;
  }
  return undefined;
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function parseObject(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}
