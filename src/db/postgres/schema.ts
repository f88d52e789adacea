import { getTableColumns, getTableName, is, SQL, sql } from 'drizzle-orm';
import {
  bigint,
  check,
  customType,
  foreignKey,
  index,
  integer,
  pgTable,
  primaryKey,
  uniqueIndex,
  type ExtraConfigColumn,
  type PgColumn,
  type PgTable,
} from 'drizzle-orm/pg-core';
import { getTableConfig, type SQLiteColumn, type SQLiteTable } from 'drizzle-orm/sqlite-core';
import * as common from '../sqlite/schema.ts';

/**
 * The tables of `sqlite/schema.ts`, column for column and index for index: rows, queries and dumps are the same on both.
 * Flags stay 0 and 1, and JSON stays text, for that reason. `npm run db:generate` writes the next migration.
 */

/** Sorted and compared by bytes, as SQLite does, and not by a locale that changes with the host's C library. */
const text = customType<{ data: string }>({ dataType: () => 'text COLLATE "C"' });

/** Columns that 32 bits are enough for. All others hold revisions, microseconds or user ids, and get 64. */
const isNarrow = (name: string): boolean =>
  /(?:_port|_ports|^usable_first|^usable_last)$/.test(name) ||
  [
    'family',
    'fit',
    'members',
    'offered',
    'settled',
    'limited_holders',
    'own_slices',
    'reclaimed',
    'steering',
    'generation',
    'epoch',
  ].includes(name);

/** Those above, for the references of those below. */
const byName = new Map<string, PgTable>();

export const meta = translated(common.meta);
export const pools = translated(common.pools);
export const machines = translated(common.machines);
export const holders = translated(common.holders);
export const slices = translated(common.slices);
export const tenures = translated(common.tenures);
export const sessions = translated(common.sessions);
export const leases = translated(common.leases);
export const extents = translated(common.extents);
export const sharedBlocks = translated(common.sharedBlocks);
export const revocations = translated(common.revocations);
export const epochs = translated(common.epochs);
export const accessTokens = translated(common.accessTokens);
export const routers = translated(common.routers);
export const audit = translated(common.audit);
export const keptAnswers = translated(common.keptAnswers);
export const events = translated(common.events);
export const portCounts = translated(common.portCounts);
export const heldPorts = translated(common.heldPorts);
export const history = translated(common.history);
export const brokers = translated(common.brokers);
export const reportedSessions = translated(common.reportedSessions);
export const reportedLeases = translated(common.reportedLeases);

/**
 * Where the log stands: the one row that every writer locks before it looks at anything, so that writers take turns and
 * revision order is commit order. `cluster` is the system and timeline that wrote last, see `LogEnd`.
 */
export const logEnd = pgTable(
  'log_end',
  {
    only: integer().primaryKey(),
    revision: bigint({ mode: 'number' }).notNull(),
    last_event_at: bigint({ mode: 'number' }).notNull(),
    allocator_epoch: integer().notNull(),
    /** Of that epoch; null while it is in doubt. */
    confirmed_at: bigint({ mode: 'number' }),
    cluster: text().notNull(),
  },
  () => [check('log_end_one_row', sql`"only" = 1`)],
);

function translated(table: SQLiteTable): PgTable {
  const { columns: own, indexes, primaryKeys, foreignKeys, checks } = getTableConfig(table);
  const made = pgTable(
    getTableName(table),
    Object.fromEntries(own.map((column) => [column.name, columnOf(column)])),
    (columns) => [
      ...primaryKeys.map((key) => primaryKey({ columns: named(columns, key.columns) })),
      ...indexes.map(({ config }) => {
        const on = config.columns.map((item) => (is(item, SQL) ? sql`(${item})` : columns[item.name]!));
        const built = (config.unique ? uniqueIndex : index)(config.name).on(...(on as NonEmpty<ExtraConfigColumn>));
        return config.where ? built.where(config.where) : built;
      }),
      ...foreignKeys.map((key) => {
        const { columns: from, foreignTable, foreignColumns } = key.reference();
        const target = byName.get(getTableName(foreignTable));
        if (!target) throw new Error(`${getTableName(foreignTable)} stands below a table that refers to it`);
        return foreignKey({
          columns: named(columns, from),
          foreignColumns: named(getTableColumns(target), foreignColumns),
        });
      }),
      ...checks.map(({ name, value }) => check(name, value)),
    ],
  );
  byName.set(getTableName(table), made);
  return made;
}

type NonEmpty<T> = [T, ...T[]];

/** The columns of the same names. What they are for, the other schema says; that there are some, too. */
const named = (columns: Readonly<Record<string, unknown>>, list: readonly SQLiteColumn[]): NonEmpty<PgColumn> =>
  list.map(({ name }) => columns[name]) as NonEmpty<PgColumn>;

type Described = Pick<SQLiteColumn, 'name' | 'dataType' | 'primary' | 'notNull'>;

function columnOf(column: Described) {
  const made =
    column.dataType === 'string' ? text() : isNarrow(column.name) ? integer() : bigint({ mode: 'number' as const });
  const keyed = column.primary ? made.primaryKey() : made;
  return column.notNull ? keyed.notNull() : keyed;
}
