import type { Need, NeedKind } from '../../leases/needs.ts';

/** What batches look at again and again: who is granted to, what from, and where the next grants would go. */
const recurring: ReadonlySet<NeedKind> = new Set([
  ...(['machine', 'holder', 'pool', 'slice', 'offers'] as const),
  ...(['offeredExtents', 'nextRest', 'limitedHolders'] as const),
]);

/** More than this many are those of many machines in turn: to guess would cost more than to ask. */
const needs_max = 32;
/** What is not looked at any more is dropped after this many turns, by learning anew. */
const turns_max = 64;

/** Two needs of one key are answered alike; undefined where it is not worth while to look for an answer. */
export const keyOfRecurring = (need: Need): string | undefined =>
  recurring.has(need.need) ? JSON.stringify(need) : undefined;

/**
 * What the next batch will most likely ask for: what those before it did. It is asked for together with the turn, in the
 * same round trip, and the answer is as true as if it were asked for later, because from the turn on nobody else writes. A
 * wrong guess costs a look in an index; a right one saves a round trip while everybody else waits.
 */
export class ExpectedNeeds {
  readonly #needs = new Map<string, Need>();
  #turns = 0;

  forNextTurn(): readonly Need[] {
    if (++this.#turns > turns_max || this.#needs.size > needs_max) {
      this.#turns = 0;
      this.#needs.clear();
    }
    return [...this.#needs.values()];
  }

  /** That a batch asked for it. */
  learn(need: Need): void {
    const key = keyOfRecurring(need);
    if (key !== undefined) this.#needs.set(key, need);
  }
}
