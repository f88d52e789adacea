import { RowLists } from '../tables/row-lists.ts';

const BARE = 0;
const WITH_PLACEHOLDER = 1;
const NONE = -1;

/**
 * Flows that were reset and have had the rest that others have: they go on resting, for the four minutes of RFC 7857 2.2, as long
 * as nobody needs what they have. They count for nothing (clients, destinations, blocks), and yield their row, placeholder or
 * tuple to whoever would else get none, the oldest first. So no burst of resets takes anything from anybody.
 *
 * Known to this process alone: a successor has them rest as all others, for what is left of their time.
 */
export class YieldingFlows {
  readonly #wasReset: Uint8Array;
  readonly #yields: Uint8Array;
  readonly #lists: RowLists;
  count = 0;
  /** Of those, with a placeholder. */
  placeholders = 0;

  constructor(flowsMax: number) {
    this.#wasReset = new Uint8Array(flowsMax);
    this.#yields = new Uint8Array(flowsMax);
    this.#lists = new RowLists(2, flowsMax);
  }

  /** Its rest is that after a reset, or that of any other end. */
  note(flow: number, wasReset: boolean): void {
    this.#wasReset[flow] = wasReset ? 1 : 0;
  }

  /** Whether the flow rests after a reset, and does not yield yet. */
  mayYield(flow: number): boolean {
    return this.#wasReset[flow] === 1 && this.#yields[flow] === 0;
  }

  has(flow: number): boolean {
    return this.#yields[flow] === 1;
  }

  add(flow: number, hasPlaceholder: boolean): void {
    this.#yields[flow] = 1;
    this.#lists.push(hasPlaceholder ? WITH_PLACEHOLDER : BARE, flow);
    this.count++;
    if (hasPlaceholder) this.placeholders++;
  }

  remove(flow: number, hasPlaceholder: boolean): void {
    this.#yields[flow] = 0;
    this.#wasReset[flow] = 0;
    this.#lists.remove(hasPlaceholder ? WITH_PLACEHOLDER : BARE, flow);
    this.count--;
    if (hasPlaceholder) this.placeholders--;
  }

  /** The one that has yielded for longest, or -1; of those that have a placeholder, if it is that which is short. */
  oldest(withPlaceholder: boolean): number {
    const bare = withPlaceholder ? NONE : this.#lists.first(BARE);
    return bare === NONE ? this.#lists.first(WITH_PLACEHOLDER) : bare;
  }
}
