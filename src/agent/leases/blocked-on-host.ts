import { parseAddress, type Address } from '../../net/address.ts';
import { rangesOverlap } from '../../net/ports.ts';
import type { BlockedPorts } from '../../wire/agent.ts';
import type { DesiredMachine } from '../server/desired.ts';
import { ownerOf, ownershipOf, type CgroupTable } from './ownership.ts';
import { conflictsOf, usersOf, type PortUser, type SocketTable } from './port-users.ts';
import type { Block } from '../host/sets.ts';

/** Between two looks: a stranger that was met once is no news, and nobody waits for it to go. */
export const recheck_every_ms = 15_000;
/** Places that one look reads the sockets of. With more than that they take turns. */
export const rechecked_max = 256;

type Parts = Readonly<{
  sockets: SocketTable;
  cgroups: CgroupTable;
  /** Whether a socket's mark says that it is one of fish's placeholders. */
  isOurMark(mark: number): boolean;
  /** Milliseconds, never backwards. */
  now(): number;
}>;

/** Looks again, now and then, whether the strangers on blocked ports are still there. */
export class BlockedOnHost {
  readonly #parts: Parts;
  #lookedAt = -Infinity;
  /** How many places were looked at before, over all looks. */
  #turn = 0;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** Blocked ports that nobody uses who has no lease of them. */
  look(desired: DesiredMachine): readonly BlockedPorts[] {
    const now = this.#parts.now();
    if (desired.blocked.size === 0 || now - this.#lookedAt < recheck_every_ms) return [];
    this.#lookedAt = now;
    const all = [...desired.blocked.values()];
    const count = Math.min(all.length, rechecked_max);
    const begin = this.#turn % all.length;
    this.#turn += count;
    const turn = [...all.slice(begin), ...all.slice(0, begin)].slice(0, count);
    return turn.filter((place) => this.#isClear(place, desired));
  }

  #isClear(place: BlockedPorts, desired: DesiredMachine): boolean {
    const { sockets, cgroups, isOurMark } = this.#parts;
    const address = addressOf(place, desired);
    if (address === undefined) return false;
    const block: Block = { address, protocol: place.protocol, ports: place.ports, mode: 'exclusive' };
    const users: readonly PortUser[] =
      place.protocol === 'icmp' ? conflictsOf(sockets, block) : usersOf(sockets, block, isOurMark);
    if (users.length === 0) return true;
    // In a shared block those may be who were in it before the stranger was met.
    const names = new Set<string>();
    for (const lease of desired.leases.values())
      if (lease.slice === place.slice && lease.protocol === place.protocol && rangesOverlap(lease.ports, place.ports))
        names.add(lease.holder);
    const members = [...names].flatMap((name) => {
      const holder = desired.holders.get(name);
      const owner = holder && ownerOf(holder, cgroups);
      return typeof owner === 'object' && owner.kind === 'proxy' ? [ownershipOf(owner, sockets, cgroups)] : [];
    });
    return users.every((user) => members.some(({ isOwn }) => isOwn(user)));
  }
}

function addressOf({ slice }: BlockedPorts, desired: DesiredMachine): Address | undefined {
  const parsed = parseAddress(desired.slices.get(slice)?.address ?? '');
  return parsed.ok ? parsed.value : undefined;
}
