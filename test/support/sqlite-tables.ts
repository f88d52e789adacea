import Database from 'better-sqlite3';
import { join } from 'node:path';
import * as rows from '../../src/db/rows.ts';
import type { Event } from '../../src/leases/model.ts';
import { holderKey, placeOf, tenureKey } from '../../src/leases/model.ts';
import type { Tables } from './memory-store.ts';

/** Every row of a database, read over a connection of its own. */
export function readTables(directory: string): Readonly<{ tables: Tables; events: readonly Event[] }> {
  const connection = new Database(join(directory, 'fishery.db'), { readonly: true });
  try {
    // eslint-disable-next-line @typescript-eslint/no-unnecessary-type-parameters -- the caller says what the SQL yields
    const all = <Row, Value>(table: string, valueOf: (row: Row) => Value): Value[] =>
      (connection.prepare(`SELECT * FROM ${table}`).all() as Row[]).map(valueOf);
    const byKey = <Key, Value>(values: readonly Value[], keyOf: (value: Value) => Key) =>
      new Map(values.map((value) => [keyOf(value), value]));
    return {
      tables: {
        pools: byKey(all('pools', rows.poolOf), (row) => row.id),
        machines: byKey(all('machines', rows.machineOf), (row) => row.id),
        holders: byKey(all('holders', rows.holderOf), (row) => holderKey(row.machine, row.name)),
        slices: byKey(all('slices', rows.sliceOf), (row) => row.id),
        tenures: byKey(all('tenures', rows.tenureOf), (row) => tenureKey(row.slice, row.generation)),
        sessions: byKey(all('sessions', rows.sessionOf), (row) => row.id),
        leases: byKey(all('leases', rows.leaseOf), (row) => row.id),
        extents: byKey(all('extents', rows.extentOf), placeOf),
        blocks: byKey(all('shared_blocks', rows.sharedBlockOf), placeOf),
        accessTokens: byKey(all('access_tokens', rows.accessTokenOf), (row) => row.id),
      },
      events: all('events', rows.eventOf),
    };
  } finally {
    connection.close();
  }
}
