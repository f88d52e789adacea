import { concerns, type Event } from '../leases/model.ts';
import type { Follower } from './follower.ts';

/**
 * The followers, by the machine whose changes they want (null: all). An event of one machine is offered to those of that
 * machine, however many thousand follow others.
 */
export class Audience {
  readonly #byMachine = new Map<string | null, Set<Follower>>();
  #count = 0;

  get count(): number {
    return this.#count;
  }

  add(follower: Follower): void {
    const followers = this.#byMachine.get(follower.machine) ?? new Set();
    this.#byMachine.set(follower.machine, followers.add(follower));
    this.#count++;
  }

  remove(follower: Follower): void {
    const followers = this.#byMachine.get(follower.machine);
    if (!followers?.delete(follower)) return;
    if (followers.size === 0) this.#byMachine.delete(follower.machine);
    this.#count--;
  }

  *of(event: Event): Generator<Follower> {
    const machines = event.machine === null ? this.#byMachine.keys() : [event.machine, null];
    for (const machine of machines) if (concerns(event, machine)) yield* this.#byMachine.get(machine) ?? [];
  }

  *all(): Generator<Follower> {
    for (const followers of this.#byMachine.values()) yield* followers;
  }
}
