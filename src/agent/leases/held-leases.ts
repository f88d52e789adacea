import type { Address } from '../../net/address.ts';
import { toPlainText } from '../../net/text.ts';
import type { Lease } from '../../wire/leases.ts';
import { cgroupOf } from './ownership.ts';
import type { Refusal } from '../placeholders/placeholders.ts';
import { elementsOf, type Block, type Element, type Owner } from '../host/sets.ts';
import type { LeaseElements } from './lease-elements.ts';
import type { LeaseHost, LeaseOutcome } from './lease-host.ts';

/**
 * `opening`: its elements are counted, nothing else is sure. `up`: everything is in place. `clearing`: it ends, and
 * somebody still uses it. `cleared`: nobody does, but the kernel has not confirmed yet that its elements are gone.
 * `refused`: the kernel or fish would not have it, and none of its elements is left.
 */
export type Phase = 'opening' | 'up' | 'clearing' | 'cleared' | 'refused';

export type Held = {
  lease: Lease;
  readonly block: Block;
  owner: Owner;
  elements: readonly Element[];
  phase: Phase;
  /** When it entered its phase, on the host's clock. */
  since: number;
  /** It was up before this agent started, or before its cgroup was made anew: its own sockets may be there already. */
  adopted: boolean;
  /** Somebody may have used it: it is not empty before that was looked at. */
  wasUp: boolean;
  refusal: Refusal | null;
  /** Its slice is not this machine's any more: whoever uses it is not waited for, because its ports may be another's. */
  isTaken: boolean;
  /** It ends, and its owner uses it no more: fish has confirmed that, or a proxy's last socket is gone. */
  isFree: boolean;
};

/** The leases that this host has something of, with their phases and their elements. Only this file changes either. */
export class HeldLeases {
  readonly elements: LeaseElements;
  readonly #host: Pick<LeaseHost, 'log' | 'now'>;
  readonly #held = new Map<string, Held>();
  /** Of those: fish's, and those that end. Both are few beside a proxy's hundred thousand. */
  readonly #fish = new Set<Held>();
  readonly #ending = new Set<Held>();
  readonly #lost = new Set<Held>();
  readonly #cgroups = new Map<string, { id: string | null; leases: number }>();

  constructor(host: Pick<LeaseHost, 'log' | 'now'>, elements: LeaseElements) {
    this.#host = host;
    this.elements = elements;
  }

  get(lease: string): Held | undefined {
    return this.#held.get(lease);
  }

  all(): MapIterator<Held> {
    return this.#held.values();
  }

  get fishes(): ReadonlySet<Held> {
    return this.#fish;
  }

  get ending(): ReadonlySet<Held> {
    return this.#ending;
  }

  /** Those of proxies that were up, and that the host would not have any more. Fish's are given back, and others claimed. */
  get lost(): ReadonlySet<Held> {
    return this.#lost;
  }

  /** The cgroups that leases are by, with the number that each had when it was looked at last. */
  get cgroups(): ReadonlyMap<string, { id: string | null }> {
    return this.#cgroups;
  }

  /** Begins to hold a lease: its elements count from now on, and are not in the kernel yet. */
  open(lease: Lease, owner: Owner, adopted: boolean): Held {
    const block = blockOf(lease);
    const elements = elementsOf(block, owner, lease.state === 'ending');
    this.elements.take(elements);
    const since = this.#host.now();
    const held: Held = {
      lease,
      block,
      owner,
      elements,
      phase: 'opening',
      since,
      adopted,
      wasUp: adopted || lease.state === 'active',
      refusal: null,
      isTaken: false,
      isFree: false,
    };
    this.#held.set(lease.id, held);
    if (owner.kind === 'fish') this.#fish.add(held);
    this.#countCgroup(owner, 1);
    return held;
  }

  /** The holder has another user id or another cgroup now, or its cgroup was made anew. */
  changeOwner(held: Held, owner: Owner): void {
    this.exchange(held, elementsOf(held.block, owner));
    // Whoever came meanwhile is the guard's business, and no reason to take the lease away.
    if (held.wasUp) held.adopted = true;
    // It is not in place before the kernel has the new elements.
    if (held.phase !== 'opening') this.#setPhase(held, 'opening');
    this.#countCgroup(owner, 1);
    this.#countCgroup(held.owner, -1);
    held.owner = owner;
  }

  /** What both have in common stays in the kernel all the while. */
  exchange(held: Held, elements: readonly Element[]): void {
    this.elements.take(elements);
    this.#giveUp(held);
    held.elements = elements;
  }

  enter(held: Held, phase: 'up' | 'clearing'): void {
    if (phase === 'clearing') this.#ending.add(held);
    this.#setPhase(held, phase);
  }

  /** Refused after it was up: it is to be brought up anew. Who is on its ports by now is the guard's business. */
  retry(held: Held): void {
    this.exchange(held, elementsOf(held.block, held.owner));
    held.adopted = true;
    this.#setPhase(held, 'opening');
  }

  /** Nothing of it is sure any more, but for its elements: it is to be brought up anew. */
  reopen(held: Held): void {
    held.adopted = false;
    this.#setPhase(held, 'opening');
  }

  /** Nobody uses it any more: its elements are to go. */
  clear(held: Held): void {
    this.#setPhase(held, 'cleared');
    this.#giveUp(held);
  }

  /**
   * The kernel or fish would not have it: its elements are to go, and the reason stays until the server has heard it.
   * Where a proxy may have used it, the server is not told: to it that would mean that nobody has anything on those ports.
   */
  refuse(held: Held, { errno, detail: said }: Refusal): readonly LeaseOutcome[] {
    // Processes name themselves as they like; the server takes a report with plain text only.
    const refusal: Refusal = { errno, detail: toPlainText(said, detail_chars_max) };
    this.#setPhase(held, 'refused');
    this.#giveUp(held);
    held.refusal = refusal;
    const { id: lease, token, holder } = held.lease;
    this.#host.log.warn({ lease, holder, ...refusal }, 'the host refused a lease');
    return isLost(held) ? [] : [{ lease, token, state: 'refused', ...refusal }];
  }

  drop(held: Held): void {
    this.#held.delete(held.lease.id);
    this.#fish.delete(held);
    this.#ending.delete(held);
    this.#lost.delete(held);
    this.#countCgroup(held.owner, -1);
  }

  #countCgroup(owner: Owner, by: 1 | -1): void {
    const cgroup = cgroupOf(owner);
    if (!cgroup) return;
    const known = this.#cgroups.get(cgroup.path) ?? { id: cgroup.id, leases: 0 };
    known.leases += by;
    if (by > 0) known.id = cgroup.id;
    if (known.leases > 0) this.#cgroups.set(cgroup.path, known);
    else this.#cgroups.delete(cgroup.path);
  }

  #setPhase(held: Held, phase: Phase): void {
    held.phase = phase;
    held.since = this.#host.now();
    if (phase === 'up') held.wasUp = true;
    if (phase !== 'refused') held.refusal = null;
    if (isLost(held)) this.#lost.add(held);
    else this.#lost.delete(held);
  }

  #giveUp(held: Held): void {
    this.elements.give(held.elements);
    held.elements = [];
  }
}

/** Refused, after a proxy may have used it. */
export const isLost = ({ phase, wasUp, owner }: Held): boolean =>
  phase === 'refused' && wasUp && owner.kind === 'proxy';

/** As the server takes it. */
const detail_chars_max = 500;

export const blockOf = (lease: Lease): Block => ({
  // Canonical text from the server, checked there when the pool was made.
  address: lease.address as Address,
  protocol: lease.protocol,
  ports: lease.ports,
  mode: lease.mode,
});
