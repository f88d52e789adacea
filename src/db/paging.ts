import type { PageOf, PageRequest } from '../leases/store.ts';
import type { AnyRow, Read } from './statement.ts';

/** Rows that one page may look at: some tens of milliseconds, however rare what is looked for is among them. */
const rows_scanned_max = 20_000;
const rows_per_read_min = 100;

/** By what a list is ordered: the cursor is its value in the last row of a page. */
export type Key = Readonly<{ column: string; kind: 'number' | 'text'; newestFirst?: true }>;
export const byNumber: Key = { column: 'id', kind: 'number' };
export const newestFirst: Key = { ...byNumber, newestFirst: true };
export const byText = (column: string): Key => ({ column, kind: 'text' });

/** What no index knows, and is looked at row by row: fields that must be equal, and what is to be said otherwise. */
export type Filter<Row, Item> = Readonly<{
  fields?: Readonly<Partial<Item>>;
  isMeant?: (item: Item, row: Row) => boolean;
}>;

/**
 * One page of what matches, in the order of the key, from after the cursor. A filter that no index knows is applied here
 * and bounded: a page may come out short, or empty, with a cursor from which the search goes on.
 */
export function* scan<Row extends AnyRow, Item>(
  { limit, cursor }: PageRequest,
  key: Key,
  filter: Filter<Row, Item>,
  itemOf: (row: Row) => Item,
  read: (after: string | number, limit: number) => Read<readonly Row[]>,
): Read<PageOf<Item>> {
  const items: Item[] = [];
  const start = key.newestFirst ? Number.MAX_SAFE_INTEGER : 0;
  let after = key.kind === 'number' ? Number(cursor ?? start) : (cursor ?? '');
  const rowsPerRead = Math.max(rows_per_read_min, limit + 1);
  for (let scanned = 0; scanned < rows_scanned_max; scanned += rowsPerRead) {
    const rows = yield* read(after, rowsPerRead);
    for (const row of rows) {
      const item = itemOf(row);
      const isWanted = matches(item, filter.fields) && filter.isMeant?.(item, row) !== false;
      // One more than the page has: the list goes on, from the last one that is in it.
      if (isWanted && items.length === limit) return { items, next: String(after) };
      if (isWanted) items.push(item);
      after = row[key.column] ?? after;
    }
    if (rows.length < rowsPerRead) return { items, next: null };
  }
  return { items, next: String(after) };
}

const matches = <Item>(item: Item, fields?: Readonly<Partial<Item>>): boolean =>
  fields === undefined ||
  (Object.keys(fields) as (keyof Item)[]).every((name) => fields[name] === undefined || fields[name] === item[name]);

/** The entries that have a value. */
export const defined = (entries: Readonly<Record<string, string | undefined>>): Readonly<Record<string, string>> =>
  Object.fromEntries(Object.entries(entries).flatMap(([key, value]) => (value === undefined ? [] : [[key, value]])));
