import type pg from 'pg';
import type { Need, NeedKind } from '../../leases/needs.ts';
import type { View } from '../../leases/view.ts';
import type { AnyRow } from '../statement.ts';
import { answersOf } from './pipeline.ts';
import { batchStatements, whichNeed, type BatchStatement } from './statements.ts';

/** Loads one round into the view: a statement per kind of need, all sent at once, so one round trip. */
export async function loadRound(client: pg.ClientBase, view: View, round: readonly Need[]): Promise<void> {
  const groups = [...Map.groupBy(round, ({ need }) => need)].flatMap(([kind, needs]) =>
    batchStatements(kind satisfies NeedKind).map((statement) => ({ statement, needs })),
  );
  const answers = await answersOf(
    groups.map(({ statement: { name, text, parametersOf }, needs }) =>
      client.query<AnyRow>({ name, text, values: [parametersOf(needs)] }),
    ),
  );
  for (const [index, { statement, needs }] of groups.entries())
    take(view, statement, needs, answers[index]?.rows ?? []);
}

function take(view: View, statement: BatchStatement, needs: readonly Need[], rows: readonly AnyRow[]): void {
  const found = Map.groupBy(rows, (row) => row[whichNeed]);
  for (const [index, need] of needs.entries()) statement.take(view, need, found.get(index) ?? []);
}
