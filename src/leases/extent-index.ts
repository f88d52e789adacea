import type { Family } from '../net/address.ts';
import type { Protocol } from '../net/protocol.ts';
import { blocksIn, PieceQueue } from './allocator.ts';
import type { Extent } from './model.ts';

/** What an extent must be of to serve a claim on a machine. */
type Terms = Readonly<{ machine: string; protocol: Protocol; pool: string; family: Family }>;

/** The extents of a view by where they are and by who may be granted from them. */
export class ExtentIndex {
  readonly #spaces = new Map<string, Map<number, Extent>>();
  readonly #offered = new Map<string, PieceQueue<Extent>>();

  replace(before: Extent | undefined, after: Extent | undefined): void {
    if (before) {
      this.#spaces.get(`${before.slice}/${before.protocol}`)?.delete(before.ports.first);
      if (before.offered) this.#offered.get(offerKey(before))?.remove(before);
    }
    if (after) {
      entry(this.#spaces, `${after.slice}/${after.protocol}`).set(after.ports.first, after);
      if (after.offered) this.#queueOf(after).add(after);
    }
  }

  /** The offered extent to take a block of 2^order ports from. */
  choose(terms: Terms, order: number): Extent | undefined {
    return this.#offered.get(offerKey(terms))?.choose(order);
  }

  /** How many blocks of 2^order ports there are in the first `count` of a window. */
  roomIn(window: Terms & Readonly<{ order: number }>, count: number, order: number): number {
    const pieces = this.#offered.get(offerKey(window))?.first(count, window.order) ?? [];
    return pieces.reduce((sum, { ports }) => sum + blocksIn(ports, order), 0);
  }

  of(slice: number, protocol: Protocol): Iterable<Extent> {
    return this.#spaces.get(`${slice}/${protocol}`)?.values() ?? [];
  }

  at(slice: number, protocol: Protocol, first: number): Extent | undefined {
    return this.#spaces.get(`${slice}/${protocol}`)?.get(first);
  }

  #queueOf(extent: Extent): PieceQueue<Extent> {
    const key = offerKey(extent);
    let queue = this.#offered.get(key);
    if (!queue) this.#offered.set(key, (queue = new PieceQueue()));
    return queue;
  }
}

const offerKey = ({ machine, protocol, pool, family }: Terms): string => `${machine}/${protocol}/${pool}/${family}`;

function entry<K, A, B>(map: Map<K, Map<A, B>>, key: K): Map<A, B> {
  const found = map.get(key);
  if (found) return found;
  const made = new Map<A, B>();
  map.set(key, made);
  return made;
}
