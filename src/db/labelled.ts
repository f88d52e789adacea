import { matches, type Selector } from '../net/selector.ts';
import type { LabelFilter } from '../leases/store.ts';
import type { AnyRow } from './statement.ts';

const owners = {
  poolLabels: { table: 'pools', column: 'pool', labels: 'pool_labels' },
  machineLabels: { table: 'machines', column: 'machine', labels: 'machine_labels' },
} as const;

const asked = (filter: LabelFilter) =>
  (['poolLabels', 'machineLabels'] as const).flatMap((name) => {
    const selector = filter[name];
    return selector === undefined ? [] : [{ ...owners[name], selector }];
  });

/** A list in the order of ids, with the labels beside each row that the filter asks for: a step in an index for each. */
export function withLabels(sql: string, filter: LabelFilter): string {
  const wanted = asked(filter);
  if (wanted.length === 0) return sql;
  const columns = wanted.map(({ table, labels }) => `${table}.labels AS ${labels}`);
  const joins = wanted.map(({ table, column }) => `LEFT JOIN ${table} ON ${table}.id = listed.${column}`);
  return `SELECT listed.*, ${columns.join(', ')} FROM (${sql}) AS listed ${joins.join(' ')} ORDER BY listed.id`;
}

/** Whether a row that was read with its labels is meant. Things share few texts, so each is read once. */
export function labelsMatch(filter: LabelFilter): (item: unknown, row: AnyRow) => boolean {
  const conditions = asked(filter).map(({ labels, selector }) => ({ labels, isMeant: textMatches(selector) }));
  return (_item, row) => conditions.every(({ labels, isMeant }) => isMeant(String(row[labels] ?? '{}')));
}

function textMatches(selector: Selector): (text: string) => boolean {
  const known = new Map<string, boolean>();
  return (text) => {
    const before = known.get(text);
    if (before !== undefined) return before;
    const now = matches(selector, JSON.parse(text) as Readonly<Record<string, string>>);
    known.set(text, now);
    return now;
  };
}
