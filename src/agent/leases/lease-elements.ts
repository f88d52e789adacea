import {
  closingOf,
  ElementCounts,
  parseSetName,
  type Element,
  type ElementsBySet,
  type SetClass,
} from '../host/sets.ts';

/**
 * The elements that leases need in the table, and those that nobody needs any more and that the kernel has not confirmed
 * to be gone. Counting happens at once, the kernel follows with `change`.
 */
export class LeaseElements {
  readonly #changeElements: (add: readonly Element[], remove: readonly Element[]) => Promise<void>;
  readonly #counts = new ElementCounts();
  readonly #leftOver: Element[] = [];
  /** Taken, and not in the kernel before the next change. */
  readonly #missing: Element[] = [];

  constructor(changeElements: (add: readonly Element[], remove: readonly Element[]) => Promise<void>) {
    this.#changeElements = changeElements;
  }

  /** Whether something is to go that the kernel may still have, or to come that it has not. */
  get isBehind(): boolean {
    return this.#leftOver.length > 0 || this.#missing.length > 0;
  }

  take(elements: readonly Element[]): void {
    this.#counts.take(elements);
  }

  /** Takes them, and puts them into the kernel with the next change, whatever that is about. */
  takeSoon(elements: readonly Element[]): void {
    this.take(elements);
    this.#missing.push(...elements);
  }

  give(elements: readonly Element[]): void {
    this.#leftOver.push(...this.#counts.give(elements));
  }

  isNeeded(element: Element): boolean {
    return this.#counts.countOf(element) > 0;
  }

  /** Everything that should be in the table now. */
  bySet(): ElementsBySet {
    return this.#counts.bySet();
  }

  /**
   * The sets that those elements are in, and those that they go to when their lease ends: that must not wait for the
   * table to be loaded anew.
   */
  classes(): readonly SetClass[] {
    return [...this.#counts.sets()].flatMap((name): readonly SetClass[] => {
      const found = parseSetName(name);
      if (!found) return [];
      const closing = closingOf(found);
      return closing ? [found, closing] : [found];
    });
  }

  /** Adds, and takes away what nobody needs by now. What failed to go is tried again; what came back stays. */
  async change(add: readonly Element[]): Promise<void> {
    const gone = this.#leftOver.filter((element) => !this.isNeeded(element));
    const come = [...add, ...this.#missing.filter((element) => this.isNeeded(element))];
    if (come.length > 0 || gone.length > 0) await this.#changeElements(come, gone);
    this.#leftOver.length = 0;
    this.#missing.length = 0;
  }
}
