import type { Holder } from '../../wire/machines.ts';
import type { PortUser, SocketTable } from './port-users.ts';
import type { Cgroup, Owner, ProxyOwner } from '../host/sets.ts';

/** The control groups of this host; the cgroup2 mount answers in production, a table in tests. */
export interface CgroupTable {
  /** Why nobody can be known by a cgroup on this host; undefined where they can. */
  readonly problem: string | undefined;
  /** The kernel's number of the cgroup at this path; undefined while there is none. */
  idOf(path: string): string | undefined;
  /** The numbers of the cgroup at this path and of all below it; none while there is none. */
  idsWithin(path: string): ReadonlySet<string>;
  /** The cgroup that a process is in; undefined for a process that is gone. */
  pathOf(pid: number): string | undefined;
}

/** The error says why the guard cannot tell this holder's sockets from others. */
export function ownerOf(holder: Holder, cgroups: CgroupTable): Owner | string {
  if (holder.kind === 'fish') return { kind: 'fish' };
  if (holder.uid !== null) return { kind: 'proxy', uid: holder.uid };
  if (holder.cgroup === null)
    return `${holder.name} is a proxy without a user id and without a cgroup: the guard cannot tell its sockets`;
  if (cgroups.problem !== undefined)
    return `${holder.name} is known by its cgroup, and this host cannot tell sockets by cgroup: ${cgroups.problem}`;
  return { kind: 'proxy', cgroup: { path: holder.cgroup, id: cgroups.idOf(holder.cgroup) ?? null } };
}

export function isSameOwner(a: Owner, b: Owner): boolean {
  if (a.kind === 'fish' || b.kind === 'fish') return a.kind === b.kind;
  if ('uid' in a || 'uid' in b) return 'uid' in a && 'uid' in b && a.uid === b.uid;
  return a.cgroup.path === b.cgroup.path && a.cgroup.id === b.cgroup.id;
}

/** What a proxy is known by, as text: a cgroup that was made anew is the same one, and leaves nobody behind. */
export const identityOf = (owner: ProxyOwner): string =>
  'uid' in owner ? `user ${owner.uid}` : `cgroup ${owner.cgroup.path}`;

export const isKnownAlike = (a: Owner, b: Owner): boolean =>
  a.kind === 'proxy' && b.kind === 'proxy' && identityOf(a) === identityOf(b);

/** The cgroup that tells whose sockets they are; undefined where it is the user id, or the TUN device. */
export const cgroupOf = (owner: Owner): Cgroup | undefined =>
  owner.kind === 'proxy' && 'cgroup' in owner ? owner.cgroup : undefined;

/** Whose sockets the ones on a leased port are. */
export type Ownership = Readonly<{
  isOwn: (user: PortUser) => boolean;
  /** Nobody's any more, and what tells whose it was may have gone with its owner. */
  mayHaveBeenOwn: (user: PortUser) => boolean;
}>;

export function ownershipOf(owner: ProxyOwner, sockets: SocketTable, cgroups: CgroupTable): Ownership {
  if ('uid' in owner) {
    const { uid } = owner;
    return {
      isOwn: (user) => user.uid === uid,
      // Before Linux 6.17 sock_diag shows user 0 for a closed socket.
      mayHaveBeenOwn: (user) => user.inode === 0 && user.uid === 0 && uid !== 0,
    };
  }
  const { path } = owner.cgroup;
  const isWithin = (pid: number) => `${cgroups.pathOf(pid) ?? ''}/`.startsWith(`${path}/`);
  const isOwn = ({ cgroup, inode }: PortUser) =>
    cgroup === undefined
      ? // A ping socket: the kernel does not tell its cgroup, but whose it is.
        inode !== 0 && (sockets.processesOf(new Set([inode])).get(inode) ?? []).some(({ pid }) => isWithin(pid))
      : cgroups.idsWithin(path).has(cgroup);
  // A closed socket keeps the number of its cgroup, also when that was removed and can no more be looked up.
  return { isOwn, mayHaveBeenOwn: (user) => user.inode === 0 && !isOwn(user) };
}
