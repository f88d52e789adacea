import type { LeasedBlock } from '../../fish/ports/blocks.ts';
import type { Held, HeldLeases } from './held-leases.ts';
import type { FishRefusal, LeaseHost, LeaseOutcome } from './lease-host.ts';

/** `away`: fish could not be told. `fenced`: it has no block, and no flow, because the server has been silent for too long. */
export type Telling = 'told' | 'fenced' | 'away';

/** What fish knows of its leases: it is always told all of them. Fish may be away; its leases wait then. */
export class FishBlocks {
  readonly #host: Pick<LeaseHost, 'setFishBlocks' | 'fenceFish' | 'placeholders'>;
  readonly #leases: HeldLeases;
  #isBehind = false;
  #isFenced = false;
  #problem: Error | undefined;

  constructor(host: Pick<LeaseHost, 'setFishBlocks' | 'fenceFish' | 'placeholders'>, leases: HeldLeases) {
    this.#host = host;
    this.#leases = leases;
  }

  /** Whether the server has been silent for too long: fish is to have no block. */
  get isFenced(): boolean {
    return this.#isFenced;
  }

  setFenced(isFenced: boolean): void {
    this.#isFenced = isFenced;
    this.#isBehind = true;
  }

  /** Whether fish is new, and knows nothing yet. */
  get isBehind(): boolean {
    return this.#isBehind;
  }

  fishIsNew(): void {
    this.#isBehind = true;
  }

  /** Why fish could not be told last; undefined when it could, or since this was asked. */
  takeProblem(): Error | undefined {
    const problem = this.#problem;
    this.#problem = undefined;
    return problem;
  }

  /**
   * Tells fish of all blocks that are up, of those in `arriving`, and of those that were up before this agent started: fish may
   * have flows in them; past the horizon, that it has none.
   */
  async tell(arriving: ReadonlySet<Held>, outcomes: LeaseOutcome[]): Promise<Telling> {
    const isFenced = this.#isFenced;
    const blocks = [...this.#leases.fishes].flatMap((held) =>
      held.phase === 'up' || (held.phase === 'opening' && (held.adopted || arriving.has(held)))
        ? [blockForFish(held)]
        : [],
    );
    let refusals: readonly FishRefusal[];
    try {
      if (isFenced) await this.#host.fenceFish();
      refusals = isFenced ? [] : await this.#host.setFishBlocks(blocks);
    } catch (error) {
      this.#problem = error instanceof Error ? error : new Error('fish failed', { cause: error });
      return 'away';
    }
    // The horizon may have passed, or the server answered, while fish did that.
    this.#isBehind = this.#isFenced !== isFenced;
    this.#problem = undefined;
    for (const { lease, reason } of refusals) {
      const held = this.#leases.get(lease);
      if (!held) continue;
      await this.#host.placeholders.close(lease);
      outcomes.push(...this.#leases.refuse(held, { errno: 'EINVAL', detail: `fish: ${reason}` }));
    }
    return isFenced ? 'fenced' : 'told';
  }
}

const blockForFish = ({ lease, block }: Held): LeasedBlock => ({ ...block, lease: lease.id, binding: lease.binding });
