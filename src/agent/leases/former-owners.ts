import { ownershipOf } from './ownership.ts';
import { ProxyEndings } from './proxy-endings.ts';
import { elementsOf, isLive, type Element, type ProxyOwner } from '../host/sets.ts';
import type { Held, HeldLeases } from './held-leases.ts';
import type { LeaseHost } from './lease-host.ts';

type Former = Readonly<{ owner: ProxyOwner; elements: readonly Element[] }>;

/**
 * Who had a lease's ports before its holder got another user id or cgroup. What they have open there may go on, as with
 * a lease that ends, and nothing new of theirs begins; when their last socket is gone, so are their elements. The lease
 * itself goes on all the while, and cannot end before that.
 */
export class FormerOwners {
  readonly #host: Pick<LeaseHost, 'sockets' | 'cgroups'>;
  readonly #leases: HeldLeases;
  readonly #endings: ProxyEndings;
  readonly #byLease = new Map<string, Map<string, Former>>();
  #count = 0;

  constructor(host: Pick<LeaseHost, 'sockets' | 'cgroups' | 'isOurMark' | 'now' | 'log'>, leases: HeldLeases) {
    this.#host = host;
    this.#leases = leases;
    const { sockets, log } = host;
    this.#endings = new ProxyEndings(sockets, {
      isOurMark: (mark) => host.isOurMark(mark),
      now: () => host.now(),
      log,
    });
  }

  /**
   * The owner that this lease has had until now is to leave, or one that it had before; its elements go into the table with the
   * next change.
   */
  add({ lease, block, owner: current }: Held, owner = current): void {
    if (owner.kind !== 'proxy') return;
    const elements = elementsOf(block, owner, true);
    this.#leases.elements.takeSoon(elements);
    const name = `${lease.id} before change ${++this.#count}`;
    const formers = this.#byLease.get(lease.id) ?? new Map<string, Former>();
    this.#byLease.set(lease.id, formers.set(name, { owner, elements }));
    this.#watch(name, { owner, elements }, { lease, block });
  }

  /** Those of one lease, for who looks for strangers. */
  of(lease: string): readonly ProxyOwner[] {
    return [...(this.#byLease.get(lease)?.values() ?? [])].map(({ owner }) => owner);
  }

  /** The end of this lease waits for nobody: what they have open is cut. */
  force({ lease, block }: Held): void {
    for (const [name, former] of this.#byLease.get(lease.id) ?? []) this.#watch(name, former, { lease, block });
  }

  /** The ports are not this machine's any more: nothing of theirs may leave, and nobody waits for them. */
  forget(lease: string): void {
    for (const [name, { elements }] of this.#byLease.get(lease) ?? []) {
      this.#endings.forget(name);
      this.#leases.elements.give(elements);
    }
    this.#byLease.delete(lease);
  }

  /** Who is waited for, for people; null when nobody was seen. */
  waitsFor(lease: string): string | null {
    for (const name of this.#byLease.get(lease)?.keys() ?? []) {
      const who = this.#endings.waitsFor(name);
      if (who !== null) return `opened before its holder became another: ${who}`;
    }
    return null;
  }

  nextLookInMs(): number | undefined {
    return this.#endings.nextLookInMs();
  }

  /**
   * Gives up the elements of those whose last socket is gone; they leave the table with the next change. Whether there were any.
   */
  look(): boolean {
    const unused = new Set(this.#endings.look());
    if (unused.size === 0) return false;
    for (const [lease, formers] of this.#byLease) {
      for (const [name, { elements }] of formers) {
        if (!unused.has(name)) continue;
        this.#leases.elements.give(elements);
        formers.delete(name);
      }
      if (formers.size === 0) this.#byLease.delete(lease);
    }
    return true;
  }

  #watch(name: string, { owner }: Former, { lease, block }: Pick<Held, 'lease' | 'block'>): void {
    const live = elementsOf(block, owner).filter(isLive);
    const { sockets, cgroups } = this.#host;
    this.#endings.watch({
      lease: name,
      // Only their own sockets count, also where the block is one holder's: that goes on.
      block: { ...block, mode: 'shared' },
      ...ownershipOf(owner, sockets, cgroups),
      isCovered: () => live.some((element) => this.#leases.elements.isNeeded(element)),
      isForced: lease.forced === true,
    });
  }
}
