import type { NeedKind, NeedOf } from '../leases/needs.ts';
import type { View } from '../leases/view.ts';
import * as rows from './rows.ts';
import type { AnyRow, Parameters } from './statement.ts';

/**
 * How each need is answered: one or two statements, each a step in an index, and what their rows are to the view. SQLite
 * runs them need by need, PostgreSQL all needs of a kind at once; the order of rows and the choice of them is the same.
 */
export type NeedStatement<N> = Readonly<{
  sql: string;
  parameters: (need: N) => Parameters;
  take: (view: View, need: N, found: readonly AnyRow[]) => void;
}>;
export type NeedStatements = { readonly [K in NeedKind]: readonly NeedStatement<NeedOf<K>>[] };

/** A statement whose rows are taken one by one. */
// eslint-disable-next-line @typescript-eslint/no-unnecessary-type-parameters -- the caller says what the SQL yields
export function each<N, Row>(
  sql: string,
  parameters: (need: N) => Parameters,
  take: (view: View, row: Row, need: N) => void,
): NeedStatement<N> {
  return whole<N, Row>(sql, parameters, (view, found, need) => {
    for (const row of found) take(view, row, need);
  });
}

/** A statement whose answer is all its rows together, none included. */
// eslint-disable-next-line @typescript-eslint/no-unnecessary-type-parameters -- the caller says what the SQL yields
export function whole<N, Row>(
  sql: string,
  parameters: (need: N) => Parameters,
  take: (view: View, found: readonly Row[], need: N) => void,
): NeedStatement<N> {
  // The rows of this statement are of this kind: it stands beside it.
  return { sql, parameters, take: (view, need, found) => take(view, found as readonly Row[], need) };
}

export function loadSlice(view: View, row: rows.SliceRow): void {
  view.slices.load(rows.sliceOf(row));
}

export function loadToken(view: View, row: rows.AccessTokenRow): void {
  view.accessTokens.load(rows.accessTokenOf(row));
}

export function loadLease(view: View, row: rows.LeaseRow): void {
  view.leases.load(rows.leaseOf(row));
}

export function loadExtent(view: View, row: rows.ExtentRow): void {
  view.extents.load(rows.extentOf(row));
}

export function loadBlock(view: View, row: rows.SharedBlockRow): void {
  view.blocks.load(rows.sharedBlockOf(row));
}

export function loadUnsettledLease(view: View, row: rows.LeaseRow): void {
  due(view.leases, view.due.unsettledLeases, rows.leaseOf(row));
}

export function due<Row>(table: { load: (row: Row) => void }, list: Row[], row: Row): void {
  table.load(row);
  list.push(row);
}
