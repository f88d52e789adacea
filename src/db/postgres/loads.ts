import type pg from 'pg';
import type { Need, NeedKind } from '../../leases/needs.ts';
import type { View } from '../../leases/view.ts';
import type { AnyRow } from '../statement.ts';
import { answersOf } from './pipeline.ts';
import { batchStatements, whichNeed } from './statements.ts';

/** What a need was answered, to be given to a view. */
export type Answer = (view: View) => void;

/** Loads one round into the view: a statement per kind of need, all sent at once, so one round trip. */
export async function loadRound(client: pg.ClientBase, view: View, round: readonly Need[]): Promise<void> {
  for (const answer of (await ask(client, round)).values()) answer(view);
}

/** The same for a view that there is only when the answers are. The statements are sent before this returns. */
export async function ask(client: pg.ClientBase, round: readonly Need[]): Promise<ReadonlyMap<Need, Answer>> {
  const groups = [...Map.groupBy(round, ({ need }) => need)].map(([kind, needs]) => ({
    needs,
    statements: batchStatements(kind satisfies NeedKind),
  }));
  const results = await Promise.all(
    groups.map(({ statements, needs }) =>
      answersOf(
        statements.map(({ name, text, parametersOf }) =>
          client.query<AnyRow>({ name, text, values: [parametersOf(needs)] }),
        ),
      ),
    ),
  );
  const answers = new Map<Need, Answer>();
  for (const [group, { statements, needs }] of groups.entries()) {
    const found = (results[group] ?? []).map(({ rows }) => Map.groupBy(rows, (row) => row[whichNeed]));
    for (const [index, need] of needs.entries())
      answers.set(need, (view) => {
        for (const [which, { take }] of statements.entries()) take(view, need, found[which]?.get(index) ?? []);
      });
  }
  return answers;
}
