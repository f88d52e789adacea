import type { Address, Family } from '../../net/address.ts';
import { familyOf } from '../../net/address.ts';
import { cgroupDepth } from '../../net/cgroup.ts';
import { portCount, type PortRange } from '../../net/ports.ts';
import { protocols, type Protocol } from '../../net/protocol.ts';

/**
 * The nftables hash sets of table `inet fishery` and what a lease puts into them. A lease is an aligned block, so one
 * element stands for all its ports: the packet's port is masked to the size of the block and looked up (`th dport &
 * 0xff80`). Hence one set per role, protocol, family and block size that occurs.
 *
 * - `own_uid`: (address, block, user id): what a proxy's live sockets may send from.
 * - `closing`: (address, block, user id): the same, of leases that end. What is established drains; nothing new begins.
 *   A user that has another lease on the block is in `own_uid` as well, which is asked first.
 * - `own_cgroup`, `closing_cgroup`: (address, block, control group): the same for proxies that are known by a cgroup. The
 *   kernel looks up the cgroup of a socket at one level below the root, so there is a set for each level that occurs.
 * - `in_cgroup`: (address, block): blocks that somebody has by a cgroup, live or ending. It is judged where the packet
 *   leaves its socket, because where it leaves the host the cgroup cannot be asked for.
 * - `own`: (address, block): the same blocks without the user id. A closed socket has none, and its last data and FIN
 *   must still get out; and packets to these blocks that match no socket are dropped (orphan rule).
 * - `fish`: (address, block): what may leave the TUN device as source.
 * - `quoted`: the same, in the type that nft gives to a raw piece of the payload: for ICMP errors that fish passes on,
 *   whose quoted packet was sent to the block. Echo needs none, its `fish` set has that type already.
 * - `steer`: (address, block): fish's exclusive blocks. Packets to them go to fish, and ICMP errors that quote them.
 */
export const roles = [
  'own_uid',
  'closing',
  'own_cgroup',
  'closing_cgroup',
  'in_cgroup',
  'own',
  'fish',
  'quoted',
  'steer',
] as const;
export type Role = (typeof roles)[number];

export type SetClass = Readonly<{
  role: Role;
  protocol: Protocol;
  family: Family;
  size: number;
  /** Of roles that tell cgroups apart: how deep below the root those cgroups are. */
  level?: number;
}>;

/** `steer_tcp4_128`, `own_cgroup_at2_tcp4_128`. */
export const setName = ({ role, protocol, family, size, level }: SetClass): string =>
  `${role}${level === undefined ? '' : `_at${level}`}_${protocol}${family}_${size}`;

const setNamePattern = new RegExp(
  `^(${roles.join('|')})(?:_at([1-9][0-9]?))?_(${protocols.join('|')})([46])_([1-9][0-9]{0,4})$`,
);

/** What the sets of this role tell senders apart by. */
export const senderIn = (role: Role): 'uid' | 'cgroup' | null =>
  role === 'own_uid' || role === 'closing'
    ? 'uid'
    : role === 'own_cgroup' || role === 'closing_cgroup'
      ? 'cgroup'
      : null;

/** Where what is in a set of this class goes when its lease ends; null where it just goes. */
export const closingOf = (set: SetClass): SetClass | null =>
  set.role === 'own_uid'
    ? { ...set, role: 'closing' }
    : set.role === 'own_cgroup'
      ? { ...set, role: 'closing_cgroup' }
      : null;

/** The class a set's name stands for; undefined for the table's other sets (`alive`, `pool4` …). */
export function parseSetName(name: string): SetClass | undefined {
  const match = setNamePattern.exec(name);
  if (!match) return undefined;
  const [, role, level, protocol, family, size] = match;
  if ((senderIn(role as Role) === 'cgroup') !== (level !== undefined)) return undefined;
  return {
    ...{ role: role as Role, protocol: protocol as Protocol, family: Number(family) as Family, size: Number(size) },
    ...(level === undefined ? {} : { level: Number(level) }),
  };
}

/**
 * One element in the spelling of nft: `198.51.100.10 . 9088` or, where users or cgroups are told apart, with the user
 * id or the kernel's number of the cgroup behind it: `198.51.100.10 . 9088 . 1000`.
 * Equal text is the same element.
 */
export type Element = Readonly<{ set: string; key: string }>;

/** What of a lease decides its elements. */
export type Block = Readonly<{
  address: Address;
  protocol: Protocol;
  ports: PortRange;
  mode: 'exclusive' | 'shared';
}>;

/**
 * A control group on this host. `id` is the kernel's number of it, as text because it has 64 bits: that of its folder. It
 * is another one whenever the cgroup was made anew, and null while there is none of that path.
 */
export type Cgroup = Readonly<{ path: string; id: string | null }>;

/** A proxy's sockets have a user id, and the cgroup that they were opened in; one of them tells whose they are. */
export type ProxyOwner = Readonly<{ kind: 'proxy'; uid: number } | { kind: 'proxy'; cgroup: Cgroup }>;

/** Whose it is, in the kernel's eyes. Fish's packets come from the TUN device. */
export type Owner = Readonly<{ kind: 'fish' }> | ProxyOwner;

/**
 * Everything that a lease of this block needs in the table. Several holders of one shared block have elements in common.
 * One that `ends` may finish what it has begun: the agent cannot close a proxy's sockets. Fish it tells to.
 */
export function elementsOf(block: Block, owner: Owner, ends = false): readonly Element[] {
  const { address, protocol, ports } = block;
  const family = familyOf(address);
  const key = `${address} . ${ports.first}`;
  const element = (role: Role, text = key, level?: number): Element => ({
    set: setName({ role, protocol, family, size: portCount(ports), ...(level === undefined ? {} : { level }) }),
    key: text,
  });
  if (owner.kind === 'proxy') {
    // Echo has no closing sockets and no resets: the set without a sender would serve nothing.
    const rest = protocol === 'icmp' ? [] : [element('own')];
    if ('uid' in owner) return [element(ends ? 'closing' : 'own_uid', `${key} . ${owner.uid}`), ...rest];
    const { path, id } = owner.cgroup;
    const role = ends ? 'closing_cgroup' : 'own_cgroup';
    // Nobody is in a cgroup that is not there; the block is shut for everybody meanwhile.
    const byCgroup = id === null ? [] : [element(role, `${key} . ${id}`, cgroupDepth(path))];
    return [...byCgroup, element('in_cgroup'), ...rest];
  }
  return [
    element('fish'),
    ...(protocol === 'icmp' ? [] : [element('quoted')]),
    ...(block.mode === 'exclusive' ? [element('steer')] : []),
  ];
}

/** The elements that only a lease that goes on has: by them its sender may begin something new. */
export const isLive = ({ set }: Element): boolean => {
  const role = parseSetName(set)?.role;
  return role === 'own_uid' || role === 'own_cgroup';
};

/** Elements by set, the form in which they are compared with the kernel's. */
export type ElementsBySet = ReadonlyMap<string, ReadonlySet<string>>;

/**
 * How many leases need each element. Holders of one shared block have elements in common, so an element goes into the
 * kernel with the first lease that needs it and leaves with the last.
 */
export class ElementCounts {
  readonly #counts = new Map<string, Map<string, number>>();

  /** Counts a lease's elements in; returns those that nobody needed before. */
  take(elements: readonly Element[]): readonly Element[] {
    return elements.filter(({ set, key }) => {
      const keys = this.#counts.get(set) ?? new Map<string, number>();
      this.#counts.set(set, keys);
      const before = keys.get(key) ?? 0;
      keys.set(key, before + 1);
      return before === 0;
    });
  }

  /** Counts them out; returns those that nobody needs any more. Giving back what was not taken is a bug, and throws. */
  give(elements: readonly Element[]): readonly Element[] {
    return elements.filter(({ set, key }) => {
      const keys = this.#counts.get(set);
      const before = keys?.get(key);
      if (!keys || before === undefined) throw new Error(`element ${key} of ${set} was not taken`);
      if (before > 1) keys.set(key, before - 1);
      else keys.delete(key);
      if (keys.size === 0) this.#counts.delete(set);
      return before === 1;
    });
  }

  countOf({ set, key }: Element): number {
    return this.#counts.get(set)?.get(key) ?? 0;
  }

  /** Names of the sets that anything counted is in. */
  sets(): MapIterator<string> {
    return this.#counts.keys();
  }

  bySet(): ElementsBySet {
    return new Map([...this.#counts].map(([set, keys]) => [set, new Set(keys.keys())]));
  }
}
