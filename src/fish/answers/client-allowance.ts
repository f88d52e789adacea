import { IPV6, type Packet } from '../packet/packet.ts';
import type { Subscribers } from '../ports/subscribers.ts';
import { SeededHash } from '../tables/seeded-hash.ts';
import { Allowance } from './allowance.ts';

/** A power of two. Clients that meet in one have what one client may have. */
const shares = 4_096;
const memory_ms = 1_000;

/**
 * An allowance that no client uses up: so many a second for all, and one client has no more of the last second's than are left.
 * Alone it has half of them at once, and soon as many a second as there are; n greedy ones leave an n-th of the burst to whoever
 * comes next. See `FairShare`, which does the same for what is held instead of spent.
 */
export class ClientAllowance {
  readonly #all: Allowance;
  readonly #subscribers: Pick<Subscribers, 'ofSource'>;
  readonly #hash: SeededHash;
  /** What the clients of each had, the less of it the longer ago, */
  readonly #had = new Float32Array(shares);
  /** and when that was true. */
  readonly #atMs = new Float64Array(shares);

  constructor(perSecondMax: number, subscribers: Pick<Subscribers, 'ofSource'>, random: () => number) {
    this.#all = new Allowance(perSecondMax);
    this.#subscribers = subscribers;
    this.#hash = new SeededHash(2, random);
  }

  /** Takes one for the client that has sent this; false when it may have none now. */
  spend(packet: Packet, nowMs: number): boolean {
    const share = this.#hash.of2(this.#subscribers.ofSource(packet), packet.protocol & IPV6) & (shares - 1);
    // The share is one of both columns.
    const had = this.#had[share]! * Math.exp((this.#atMs[share]! - nowMs) / memory_ms);
    if (had > this.#all.left(nowMs) || !this.#all.spend(nowMs)) return false;
    this.#had[share] = had + 1;
    this.#atMs[share] = nowMs;
    return true;
  }
}
