import { ownershipOf } from './ownership.ts';
import { ProxyEndings } from './proxy-endings.ts';
import { elementsOf, isLive } from '../host/sets.ts';
import type { FishBlocks } from './fish-blocks.ts';
import type { FormerOwners } from './former-owners.ts';
import type { Held, HeldLeases } from './held-leases.ts';
import type { LeaseHost, LeaseOutcome } from './lease-host.ts';

/**
 * The way down: fish's flows and placeholders closed, or the proxy's ports shut for what is new and its sockets watched
 * until none is left → elements gone → `empty`. Of what is not this machine's any more the elements go at once: its sockets
 * stay, and nothing of theirs leaves.
 */
export class LeavingLeases {
  readonly #host: Pick<LeaseHost, 'placeholders' | 'sockets' | 'cgroups'>;
  readonly #leases: HeldLeases;
  readonly #fish: FishBlocks;
  readonly #formers: FormerOwners;
  readonly #endings: ProxyEndings;

  constructor(
    host: Pick<LeaseHost, 'placeholders' | 'sockets' | 'cgroups' | 'isOurMark' | 'now' | 'log'>,
    leases: HeldLeases,
    fish: FishBlocks,
    formers: FormerOwners,
  ) {
    this.#host = host;
    this.#leases = leases;
    this.#fish = fish;
    this.#formers = formers;
    this.#endings = new ProxyEndings(host.sockets, {
      isOurMark: (mark) => host.isOurMark(mark),
      now: () => host.now(),
      log: host.log,
    });
  }

  /** When the sockets of a lease that ends should be looked at again; undefined when none is waited for. */
  nextLookInMs(): number | undefined {
    return this.#endings.nextLookInMs();
  }

  /** Who a lease waits for, for people; null when nobody was seen. */
  waitsFor(lease: string): string | null {
    return this.#endings.waitsFor(lease);
  }

  /** Begins the end of these; returns those of fish's that have to wait because fish is away. */
  async begin(leaving: readonly Held[], outcomes: LeaseOutcome[]): Promise<readonly string[]> {
    const fishes = leaving.filter(({ owner }) => owner.kind === 'fish');
    const proxies = leaving.filter(({ owner }) => owner.kind === 'proxy');
    for (const held of leaving) if (held.phase !== 'clearing') this.#leases.enter(held, 'clearing');
    const { elements } = this.#leases;
    // Nothing new begins from here on; only then does it mean anything that no socket is left.
    for (const held of proxies) {
      this.#leases.exchange(held, held.isTaken ? [] : elementsOf(held.block, held.owner, true));
      if (held.isTaken) this.#formers.forget(held.lease.id);
    }
    await elements.change(proxies.flatMap((held) => held.elements));
    const isTold = fishes.length > 0 && (await this.#fish.tell(new Set(), outcomes)) !== 'away';
    for (const held of fishes) {
      if (isTold) await this.#host.placeholders.close(held.lease.id);
      held.isFree = isTold;
    }
    for (const held of proxies) {
      const { lease, block, owner } = held;
      if (owner.kind !== 'proxy') continue;
      if (held.isTaken) {
        this.#endings.forget(lease.id);
        held.isFree = true;
        continue;
      }
      this.#formers.force(held);
      const live = elementsOf(block, owner).filter(isLive);
      const isCovered = () => live.some((element) => elements.isNeeded(element));
      const { sockets, cgroups } = this.#host;
      const isForced = lease.forced === true;
      this.#endings.watch({ lease: lease.id, block, ...ownershipOf(owner, sockets, cgroups), isCovered, isForced });
    }
    return isTold ? [] : fishes.map(({ lease }) => lease.id);
  }

  /**
   * Ends those that nobody uses any more: fish's, and the proxies' whose last socket is gone. Only what is still
   * desired by then is told.
   */
  async finish(isDesired: (lease: string) => boolean, outcomes: LeaseOutcome[]): Promise<void> {
    const unused = new Set(this.#endings.look());
    for (const held of this.#leases.ending) {
      if (unused.has(held.lease.id)) held.isFree = true;
      const isUnused = held.isFree && this.#formers.of(held.lease.id).length === 0;
      if (held.phase !== 'cleared' && isUnused) this.#leases.clear(held);
    }
    await this.#leases.elements.change([]);
    for (const held of this.#leases.ending) {
      if (held.phase !== 'cleared') continue;
      const { id: lease, token } = held.lease;
      this.#leases.drop(held);
      if (isDesired(lease)) outcomes.push({ lease, token, state: 'empty' });
    }
  }
}
