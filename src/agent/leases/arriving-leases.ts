import { setImmediate } from 'node:timers/promises';
import { ownershipOf } from './ownership.ts';
import type { Refusal } from '../placeholders/placeholders.ts';
import { conflictsOfMany, describeUser, type BlockOfLease, type PortUser } from './port-users.ts';
import type { ProxyOwner } from '../host/sets.ts';
import type { FishBlocks } from './fish-blocks.ts';
import type { FormerOwners } from './former-owners.ts';
import type { Held, HeldLeases } from './held-leases.ts';
import type { LeaseHost, LeaseOutcome } from './lease-host.ts';

/** A block of thousands of ports takes milliseconds to claim; the keepalive must not wait for many of them. */
const claimsAtOnce_max = 16;

/**
 * The way up: elements → the ports claimed → fish's block → `active`. What is refused on the way leaves nothing behind.
 */
export class ArrivingLeases {
  readonly #host: Pick<LeaseHost, 'placeholders' | 'sockets' | 'cgroups'>;
  readonly #leases: HeldLeases;
  readonly #fish: FishBlocks;
  readonly #formers: Pick<FormerOwners, 'of'>;

  constructor(
    host: Pick<LeaseHost, 'placeholders' | 'sockets' | 'cgroups'>,
    leases: HeldLeases,
    fish: FishBlocks,
    formers: Pick<FormerOwners, 'of'>,
  ) {
    this.#host = host;
    this.#leases = leases;
    this.#fish = fish;
    this.#formers = formers;
  }

  /** Brings these up; returns those of fish's that have to wait because fish is away, or may not use any. */
  async bringUp(arriving: readonly Held[], outcomes: LeaseOutcome[]): Promise<readonly string[]> {
    const { elements } = this.#leases;
    await elements.change(arriving.flatMap((held) => held.elements));
    const strangers = this.#strangersOn(arriving);
    for (const [index, held] of arriving.entries()) {
      const refusal = await this.#claim(held, strangers.get(held.lease.id) ?? []);
      if (refusal) outcomes.push(...this.#leases.refuse(held, refusal));
      if (index % claimsAtOnce_max === claimsAtOnce_max - 1) await setImmediate();
    }
    const fishes = arriving.filter(({ owner, phase }) => owner.kind === 'fish' && phase !== 'refused');
    const hasNews = this.#fish.isBehind || fishes.length > 0;
    const isTold = hasNews ? (await this.#fish.tell(new Set(arriving), outcomes)) === 'told' : true;
    for (const held of arriving) {
      if (held.phase === 'refused' || (held.owner.kind === 'fish' && !isTold)) continue;
      this.#leases.enter(held, 'up');
      outcomes.push({ lease: held.lease.id, token: held.lease.token, state: 'active' });
    }
    await elements.change([]);
    return isTold ? [] : fishes.map(({ lease }) => lease.id);
  }

  /** What the kernel has to grant beyond elements: placeholders for fish, and nobody else's sockets for a proxy. */
  async #claim({ lease, block, owner }: Held, strangers: readonly PortUser[]): Promise<Refusal | undefined> {
    if (owner.kind === 'fish') {
      return this.#host.placeholders.hold(lease.id, block);
    }
    const [first] = strangers;
    if (!first) return undefined;
    const more = strangers.length > 1 ? ` and ${strangers.length - 1} more` : '';
    const detail = `port ${first.port} has ${describeUser(this.#host.sockets, first)}${more}`;
    return { errno: 'EADDRINUSE', detail };
  }

  /** Other people's sockets on the ports that proxies are to have to themselves, by lease. */
  #strangersOn(arriving: readonly Held[]): ReadonlyMap<string, readonly PortUser[]> {
    const { sockets, cgroups } = this.#host;
    const owners = new Map<string, ProxyOwner>();
    const blocks: BlockOfLease[] = [];
    for (const { lease, block, owner, adopted } of arriving) {
      if (owner.kind !== 'proxy' || block.mode === 'shared' || adopted) continue;
      owners.set(lease.id, owner);
      blocks.push({ lease: lease.id, block });
    }
    const found = blocks.length === 0 ? [] : [...conflictsOfMany(sockets, blocks)];
    return new Map(
      found.map(([lease, users]) => {
        const owner = owners.get(lease);
        const owns = [...(owner ? [owner] : []), ...this.#formers.of(lease)].map(
          (each) => ownershipOf(each, sockets, cgroups).isOwn,
        );
        // Without a process it is closing and goes by itself.
        return [lease, users.filter((user) => user.inode !== 0 && !owns.some((isOwn) => isOwn(user)))];
      }),
    );
  }
}
