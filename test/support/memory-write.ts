import { StoreError } from '../../src/leases/store.ts';
import type { Change } from '../../src/leases/table.ts';

/** Refuses what a database would: a new row over an old one, a change of a row that is not there. */
export function write<Key, Row>(table: Map<Key, Row>, changes: readonly Change<Row>[], keyOf: (row: Row) => Key): void {
  for (const { before, after } of changes) {
    const row = before ?? after;
    if (row === undefined) continue;
    if (table.has(keyOf(row)) !== (before !== undefined))
      throw new StoreError('constraint', `row ${String(keyOf(row))} is ${before ? 'not there' : 'there already'}`);
    if (after === undefined) table.delete(keyOf(row));
    else table.set(keyOf(row), after);
  }
}
