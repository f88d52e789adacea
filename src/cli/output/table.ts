import Table from 'cli-table3';
import { cellOf } from './values.ts';

/** Heading and what stands under it. */
export type Columns<T> = Readonly<Record<string, (item: T) => unknown>>;

const bare = { 'padding-left': 0, 'padding-right': 0, head: [], border: [] };
const gap = '  ';
const chars = Object.fromEntries(
  [
    ...['top', 'top-mid', 'top-left', 'top-right', 'bottom', 'bottom-mid', 'bottom-left', 'bottom-right'],
    ...['left', 'left-mid', 'mid', 'mid-mid', 'right', 'right-mid'],
  ].map((name) => [name, '']),
);

/** Rows under their headings, columns as wide as they must be, numbers to the right; a line each, no frame. */
export function tableOf<T>(columns: Columns<T>, items: readonly T[], withHead = true): string {
  const names = Object.keys(columns);
  const values = items.map((item) => Object.values(columns).map((of) => of(item)));
  const isNumeric = (column: number) =>
    values.some((row) => typeof row[column] === 'number') &&
    values.every((row) => row[column] == null || typeof row[column] === 'number');
  const table = new Table({
    ...(withHead ? { head: names.map((name) => name.toUpperCase()) } : {}),
    chars: { ...chars, middle: gap },
    style: bare,
    colAligns: names.map((_, column) => (isNumeric(column) ? 'right' : 'left')),
  });
  table.push(...values.map((row) => row.map(cellOf)));
  return table
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n');
}
