import type { Protocol } from '../net/protocol.ts';
import { placeOf, type Extent } from './model.ts';

/** The extents of a view by where they are and by who may be granted from them. */
export class ExtentIndex {
  readonly #spaces = new Map<string, Map<number, Extent>>();
  readonly #offered = new Map<string, Map<string, Extent>>();

  replace(before: Extent | undefined, after: Extent | undefined): void {
    if (before) {
      this.#spaces.get(`${before.slice}/${before.protocol}`)?.delete(before.ports.first);
      this.#offered.get(`${before.machine}/${before.protocol}`)?.delete(placeOf(before));
    }
    if (after) {
      entry(this.#spaces, `${after.slice}/${after.protocol}`).set(after.ports.first, after);
      if (after.offered) entry(this.#offered, `${after.machine}/${after.protocol}`).set(placeOf(after), after);
    }
  }

  offered(machine: string, protocol: Protocol): Iterable<Extent> {
    return this.#offered.get(`${machine}/${protocol}`)?.values() ?? [];
  }

  of(slice: number, protocol: Protocol): Iterable<Extent> {
    return this.#spaces.get(`${slice}/${protocol}`)?.values() ?? [];
  }

  at(slice: number, protocol: Protocol, first: number): Extent | undefined {
    return this.#spaces.get(`${slice}/${protocol}`)?.get(first);
  }
}

function entry<K, A, B>(map: Map<K, Map<A, B>>, key: K): Map<A, B> {
  const found = map.get(key);
  if (found) return found;
  const made = new Map<A, B>();
  map.set(key, made);
  return made;
}
