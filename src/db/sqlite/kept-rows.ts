import type { Need, NeedKind } from '../../leases/needs.ts';
import type { Changes } from '../../leases/changes.ts';
import type { AnyRow } from '../statement.ts';

/** What nearly every batch looks at and few change, with the rows that the answer depends on. */
const kept: Partial<Record<NeedKind, keyof Changes>> = {
  ...({ session: 'sessions', machine: 'machines', holder: 'holders', pool: 'pools' } as const),
  ...({ slice: 'slices', offers: 'slices' } as const),
};
/** Answers of one kind of rows; beyond it, all of them are read anew. */
const answers_max = 4_096;

/**
 * Answers that stay true from one transaction to the next, because nobody else writes. A batch is answered by a handful of
 * rows that the batch before it was answered by, and reading them again would be most of what a small batch costs.
 */
export class KeptRows {
  readonly #answers = new Map<keyof Changes, Map<string, readonly AnyRow[]>>();

  read(need: Need, parameters: object, read: () => readonly AnyRow[]): readonly AnyRow[] {
    const table = kept[need.need];
    if (table === undefined) return read();
    let answers: Map<string, readonly AnyRow[]> | undefined = this.#answers.get(table);
    if (!answers) this.#answers.set(table, (answers = new Map<string, readonly AnyRow[]>()));
    const key = `${need.need} ${JSON.stringify(parameters)}`;
    let rows = answers.get(key);
    if (!rows) {
      if (answers.size >= answers_max) answers.clear();
      answers.set(key, (rows = read()));
    }
    return rows;
  }

  /** What a transaction is about to change. */
  forget(changes: Changes): void {
    for (const [table, answers] of this.#answers) if (changes[table].length > 0) answers.clear();
  }

  forgetAll(): void {
    this.#answers.clear();
  }
}
