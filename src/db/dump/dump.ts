import type { Snapshot } from '../snapshot.ts';
import { all, one, type AnyRow, type Read, type Value } from '../statement.ts';
import { tableShapes, type TableShape } from '../tables.ts';
import { footerLine, headerLine, rowLine, schemaStep } from './format.ts';

const rows_per_step = 1_000;

/**
 * A whole database as lines of text (see format.ts), in one state of it, whatever is written meanwhile. What it holds in
 * memory is a thousand rows.
 */
export async function* dump(snapshot: Snapshot): AsyncGenerator<string, void, void> {
  yield headerLine({ schema: schemaStep(), revision: await snapshot.run(revision()) });
  const counts: Record<string, number> = {};
  for (const shape of tableShapes) {
    let count = 0;
    let last: AnyRow | undefined;
    for (let isOver = false; !isOver;) {
      const page: readonly AnyRow[] = await snapshot.run(pageAfter(shape, last));
      for (const row of page) yield rowLine(shape, row);
      count += page.length;
      last = page.at(-1);
      isOver = page.length < rows_per_step;
    }
    counts[shape.name] = count;
  }
  yield footerLine(counts);
}

function* revision(): Read<number> {
  return (yield* one<{ revision: number | null }>('SELECT max(revision) AS revision FROM events'))?.revision ?? 0;
}

function pageAfter({ name, primary }: TableShape, last: AnyRow | undefined): Read<readonly AnyRow[]> {
  const keys = primary.join(', ');
  const where = last === undefined ? '' : `WHERE (${keys}) > (${primary.map((key) => `@${key}`).join(', ')})`;
  const after: Record<string, Value> = {};
  for (const key of last === undefined ? [] : primary) after[key] = last?.[key] ?? null;
  return all<AnyRow>(`SELECT * FROM ${name} ${where} ORDER BY ${keys} LIMIT @limit`, {
    ...after,
    limit: rows_per_step,
  });
}
