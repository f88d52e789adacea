import { concerns, steering, type Event, type Interest } from '../leases/model.ts';
import type { Follower } from './follower.ts';

/**
 * The followers, by what they want to hear of. An event of one machine is offered to those of that
 * machine, however many thousand follow others.
 */
export class Audience {
  readonly #byInterest = new Map<Interest, Set<Follower>>();
  #count = 0;

  get count(): number {
    return this.#count;
  }

  add(follower: Follower): void {
    const followers = this.#byInterest.get(follower.interest) ?? new Set();
    this.#byInterest.set(follower.interest, followers.add(follower));
    this.#count++;
  }

  remove(follower: Follower): void {
    const followers = this.#byInterest.get(follower.interest);
    if (!followers?.delete(follower)) return;
    if (followers.size === 0) this.#byInterest.delete(follower.interest);
    this.#count--;
  }

  *of(event: Event): Generator<Follower> {
    const interests: Iterable<Interest> =
      event.machine === null ? this.#byInterest.keys() : [event.machine, steering, null];
    for (const interest of interests) if (concerns(event, interest)) yield* this.#byInterest.get(interest) ?? [];
  }

  *all(): Generator<Follower> {
    for (const followers of this.#byInterest.values()) yield* followers;
  }
}
