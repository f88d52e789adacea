import { getTableName } from 'drizzle-orm';
import { getTableConfig, type SQLiteTable } from 'drizzle-orm/sqlite-core';
import * as schema from './sqlite/schema.ts';

/** The name under which both schemas export a table that has the data of the domain. Counts follow from the others. */
export type TableKey = Exclude<keyof typeof schema, 'meta' | 'portCounts' | 'heldPorts'>;

/** A table as both databases have it. */
export type TableShape = Readonly<{
  key: TableKey;
  name: string;
  columns: readonly Readonly<{ name: string; kind: 'text' | 'number'; optional: boolean }>[];
  /** The columns of the primary key, in its order. */
  primary: readonly string[];
}>;

/** All of them, those that others refer to first. */
export const tableShapes: readonly TableShape[] = (
  [
    'pools',
    'machines',
    'holders',
    'slices',
    'tenures',
    'sessions',
    'leases',
    'extents',
    'sharedBlocks',
    'revocations',
    'accessTokens',
    'routers',
    'keptAnswers',
    'audit',
    'epochs',
    'events',
    'history',
    'brokers',
    'reportedSessions',
    'reportedLeases',
  ] as const
).map((key) => shapeOf(key, schema[key]));

function shapeOf(key: TableKey, table: SQLiteTable): TableShape {
  const { columns, primaryKeys } = getTableConfig(table);
  return {
    key,
    name: getTableName(table),
    columns: columns.map(({ name, dataType, notNull, primary }) => ({
      name,
      kind: dataType === 'string' ? 'text' : 'number',
      optional: !notNull && !primary,
    })),
    primary: (primaryKeys[0]?.columns ?? columns.filter(({ primary }) => primary)).map(({ name }) => name),
  };
}
