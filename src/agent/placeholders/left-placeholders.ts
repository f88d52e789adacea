import type { Lease } from '../../wire/leases.ts';
import { HostProblem } from '../host/host.ts';
import type { LeaseSource } from '../leases/lease-source.ts';
import { blockOf } from '../leases/held-leases.ts';
import type { Placeholders } from './placeholders.ts';

export type LeftPlaceholdersParts = Readonly<{
  placeholders: Pick<Placeholders, 'keepOnly' | 'restore'>;
  granted(): LeaseSource;
  /** Past the horizon nothing is needed. */
  isFenced(): boolean;
}>;

/** What a former agent left in the keepers, until every lease of the first snapshot has its own; and what is lost with a keeper. */
export class LeftPlaceholders {
  readonly #parts: LeftPlaceholdersParts;
  /** All of it is leases' by now, or closed. */
  #isOver = false;

  constructor(parts: LeftPlaceholdersParts) {
    this.#parts = parts;
  }

  /** Of what a former agent left, closes what no lease needs; opens again what was lost. Returns what stands in the way. */
  async lookAfter(): Promise<Error | undefined> {
    const { placeholders, granted, isFenced } = this.#parts;
    const { leases, holders } = granted();
    try {
      if (!this.#isOver) {
        const isFishs = ({ holder }: Lease) => holders.get(holder)?.kind === 'fish';
        const needed = isFenced() ? [] : [...leases.values()].filter(isFishs);
        placeholders.keepOnly(needed.map(blockOf));
      }
      await placeholders.restore();
      return undefined;
    } catch (error) {
      if (error instanceof HostProblem) return error;
      throw error;
    }
  }

  /** Once every lease of the first snapshot has what it asked for: nobody will ask for the rest. */
  end(isComplete: boolean): void {
    if (this.#isOver || !isComplete) return;
    this.#parts.placeholders.keepOnly([]);
    this.#isOver = true;
  }
}
