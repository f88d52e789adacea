import type { Lease } from '../../src/wire/leases.ts';
import { overlap, type LinkedBroker } from './linked-broker.ts';

const numberOf = (id: string) => Number(id.split('-')[1]);

/** Who may send from which address and ports, on all machines together, and when two could at once. */
export class Senders {
  readonly #now = new Map<string, Lease>();
  readonly collisions: string[] = [];

  /** For as long as anybody may send from it, the slice is this machine's, in that generation. */
  #look(machine: LinkedBroker, lease: Lease, when: string): void {
    const slice = machine.server.store.tables.slices.get(numberOf(lease.slice));
    const isIts = slice?.machine === machine.machine && slice.generation === Number(lease.token.split('.')[0]);
    if (!isIts || slice.state === 'cooling' || slice.state === 'free')
      this.collisions.push(
        `${lease.id} ${when} ${machine.machine} when its slice was ${slice?.machine}'s, ${slice?.state}`,
      );
  }

  follow(machine: LinkedBroker): void {
    machine.onUp = (lease) => {
      this.#look(machine, lease, 'came to');
      for (const other of this.#now.values())
        if (overlap(lease, other))
          this.collisions.push(`${lease.id} on ${lease.machine} while ${other.id} on ${other.machine}`);
      this.#now.set(`${machine.machine} ${lease.id}`, lease);
    };
    machine.onDown = (lease) => {
      this.#look(machine, lease, 'went from');
      this.#now.delete(`${machine.machine} ${lease.id}`);
    };
  }
}
