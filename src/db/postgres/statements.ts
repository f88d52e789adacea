import type { NeedKind, Need } from '../../leases/needs.ts';
import type { NeedStatement } from '../need-statement.ts';
import { needStatements, numberParameters } from '../need-statements.ts';
import type { AnyRow, Parameters, Statement, Value } from '../statement.ts';

/** A statement as PostgreSQL takes it. The name makes a connection parse and plan it once. */
export type Prepared = Readonly<{ name: string; text: string; values: Value[] }>;

type Shape = Readonly<{ name: string; text: string; order: readonly string[] }>;
const shapes = new Map<string, Shape>();

/** Turns `@name` into `$n`, with the type that the value has: without it `$1 + 1` would be taken for 32 bits. */
export function positional({ sql, parameters }: Statement): Prepared {
  let shape = shapes.get(sql);
  if (!shape) {
    const order: string[] = [];
    const text = sql.replace(/@(\w+)/g, (_, name: string) => {
      if (!order.includes(name)) order.push(name);
      return `$${order.indexOf(name) + 1}::${typeof parameters[name] === 'number' ? 'int8' : 'text'}`;
    });
    shapes.set(sql, (shape = { name: `r${shapes.size}`, text, order }));
  }
  return { name: shape.name, text: shape.text, values: shape.order.map((name) => valueOf(parameters, name)) };
}

function valueOf(parameters: Parameters, name: string): Value {
  const value = parameters[name];
  if (value === undefined) throw new Error(`the statement has no value for @${name}`);
  return value;
}

/** One statement for all needs of one kind: it answers each as SQLite's would, and says which need a row is for. */
export type BatchStatement = Readonly<{
  name: string;
  text: string;
  /** The one value of the statement: what the needs ask about, as JSON. */
  parametersOf: (needs: readonly Need[]) => string;
  take: NeedStatement<Need>['take'];
}>;

/** The column of a batch statement's rows that says for which of the needs they are. */
export const whichNeed = 'which_need';

const batches = new Map<NeedKind, readonly BatchStatement[]>();

export function batchStatements(kind: NeedKind): readonly BatchStatement[] {
  let known = batches.get(kind);
  if (!known) {
    // The entry under a kind is about needs of that kind; the compiler cannot follow the correlation.
    const statements = needStatements[kind] as readonly NeedStatement<Need>[];
    batches.set(kind, (known = statements.map((statement, index) => batchOf(`${kind}${index}`, statement))));
  }
  return known;
}

/**
 * The statement for one need, once per need: LATERAL. Its parameters are columns of the list of needs. Within a need the
 * rows come in the statement's own order, because the only way to run this is need by need.
 */
function batchOf(name: string, { sql, parameters, take }: NeedStatement<Need>): BatchStatement {
  const columns = [...new Set([...sql.matchAll(/@(\w+)/g)].map(([, column]) => column ?? ''))];
  const typed = [whichNeed, ...columns].map(
    (column) => `"${column}" ${column === whichNeed || numberParameters.has(column) ? 'int8' : 'text'}`,
  );
  const inner = (lateralOf[name] ?? sql).replace(/@(\w+)/g, 'asked."$1"');
  return {
    name,
    text: `SELECT asked.${whichNeed}, answer.* FROM json_to_recordset($1::json) AS asked (${typed.join(', ')})
      CROSS JOIN LATERAL (${inner}) AS answer`,
    parametersOf: (needs) =>
      JSON.stringify(needs.map((need, index): AnyRow => ({ ...parameters(need), [whichNeed]: index }))),
    take,
  };
}

/**
 * Where PostgreSQL needs other words than SQLite for the same rows. The leases of ended sessions: SQLite walks the index
 * session by session and stops at the limit; PostgreSQL does so only when told.
 */
const lateralOf: Readonly<Record<string, string>> = {
  unsettledSessions1: `SELECT lease.* FROM (
      SELECT id FROM sessions WHERE state = 'ended' AND settled = 0 ORDER BY id LIMIT @limit) AS ended
    CROSS JOIN LATERAL (
      SELECT * FROM leases WHERE session = ended.id AND state IN ('pending', 'active') ORDER BY id LIMIT @limit) AS lease
    ORDER BY ended.id, lease.id LIMIT @limit`,
};
