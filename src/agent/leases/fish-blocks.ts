import type { LeasedBlock } from '../../fish/blocks.ts';
import type { Held, HeldLeases } from './held-leases.ts';
import type { FishRefusal, LeaseHost, LeaseOutcome } from './lease-host.ts';

/** What fish knows of its leases: it is always told all of them. Fish may be away; its leases wait then. */
export class FishBlocks {
  readonly #host: Pick<LeaseHost, 'setFishBlocks' | 'placeholders'>;
  readonly #leases: HeldLeases;
  #isBehind = false;
  #problem: Error | undefined;

  constructor(host: Pick<LeaseHost, 'setFishBlocks' | 'placeholders'>, leases: HeldLeases) {
    this.#host = host;
    this.#leases = leases;
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
   * have flows in them. False when it is away.
   */
  async tell(arriving: ReadonlySet<Held>, outcomes: LeaseOutcome[]): Promise<boolean> {
    const blocks = [...this.#leases.fishes].flatMap((held) =>
      held.phase === 'up' || (held.phase === 'opening' && (held.adopted || arriving.has(held)))
        ? [blockForFish(held)]
        : [],
    );
    let refusals: readonly FishRefusal[];
    try {
      refusals = await this.#host.setFishBlocks(blocks);
    } catch (error) {
      this.#problem = error instanceof Error ? error : new Error('fish failed', { cause: error });
      return false;
    }
    this.#isBehind = false;
    this.#problem = undefined;
    for (const { lease, reason } of refusals) {
      const held = this.#leases.get(lease);
      if (!held) continue;
      await this.#host.placeholders.close(lease);
      outcomes.push(this.#leases.refuse(held, { errno: 'EINVAL', detail: `fish: ${reason}` }));
    }
    return true;
  }
}

const blockForFish = ({ lease, block }: Held): LeasedBlock => ({ ...block, lease: lease.id, binding: lease.binding });
