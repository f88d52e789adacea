import type { Lease } from '../../src/wire/leases.ts';
import { overlap, type LinkedBroker } from './linked-broker.ts';
import type { LiveServer } from './real-server.ts';

const numberOf = (id: string) => Number(id.split('-')[1]);
type Machine = LinkedBroker<LiveServer>;
type Sender = Readonly<{ machine: Machine; lease: Lease }>;

/**
 * Who may send from which address and ports, on all machines together, and when two could at once: what is on a host counts
 * for as long as its guard is open.
 */
export class Senders {
  readonly #now = new Map<string, Sender>();
  readonly collisions: string[] = [];
  /** Whether the server's table is to have all that was decided: not when it was restored, until it has heard again. */
  isTableWhole = true;

  follow(machine: Machine): void {
    const nameOf = (lease: Lease) => `${machine.machine} ${lease.id}`;
    machine.onUp = (lease) => {
      const sender = { machine, lease };
      this.#meet(sender);
      this.#look(sender, 'came to');
      this.#now.set(nameOf(lease), sender);
    };
    machine.onOpen = () => {
      for (const sender of this.#now.values()) if (sender.machine === machine) this.#meet(sender);
    };
    machine.onDown = (lease) => {
      this.#look({ machine, lease }, 'went from');
      this.#now.delete(nameOf(lease));
    };
  }

  #meet({ machine, lease }: Sender): void {
    if (!machine.isGuardOpen) return;
    for (const { machine: at, lease: other } of this.#now.values())
      if (other !== lease && at.isGuardOpen && overlap(lease, other))
        this.collisions.push(`${lease.id} on ${machine.machine} while ${other.id} on ${at.machine}`);
  }

  /** For as long as anybody may send from it, the slice is this machine's, in that generation. */
  #look({ machine, lease }: Sender, when: string): void {
    if (!this.isTableWhole || !machine.isGuardOpen) return;
    const slice = machine.server.tables.slices.get(numberOf(lease.slice));
    const isIts = slice?.machine === machine.machine && slice.generation === Number(lease.token.split('.')[0]);
    if (!isIts || slice.state === 'cooling' || slice.state === 'free')
      this.collisions.push(
        `${lease.id} ${when} ${machine.machine} when its slice was ${slice?.machine}'s, ${slice?.state}`,
      );
  }
}
