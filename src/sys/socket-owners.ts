import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

export type SocketOwner = Readonly<{ pid: number; command: string }>;

/**
 * The processes that have each of these sockets open, by a walk over /proc: a few milliseconds on a small host, so it is
 * for questions of people and for refusals, not for every flow. A socket without an entry belongs to nobody (TIME_WAIT,
 * still closing), to a process in another pid namespace, or is on its way through a Unix socket. Several processes may
 * share one.
 */
export function processesOf(inodes: ReadonlySet<number>): Map<number, { pid: number; command: string }[]> {
  const owners = new Map<number, SocketOwner[]>();
  if (inodes.size === 0) return owners;
  for (const entry of attempt(() => readdirSync('/proc')) ?? []) {
    const pid = Number(entry);
    if (!Number.isInteger(pid)) continue;
    for (const inode of socketsOf(pid)) {
      if (!inodes.has(inode)) continue;
      const command = attempt(() => readFileSync(`/proc/${pid}/comm`, 'utf8').trimEnd());
      if (command === undefined) continue;
      const known = owners.get(inode) ?? [];
      owners.set(inode, [...known, { pid, command }]);
    }
  }
  return owners;
}

/** The inodes of the sockets that a process has open, each once; none when it is gone or not ours to look at. */
function socketsOf(pid: number): Set<number> {
  const inodes = new Set<number>();
  for (const fd of attempt(() => readdirSync(`/proc/${pid}/fd`)) ?? []) {
    const target = attempt(() => readlinkSync(`/proc/${pid}/fd/${fd}`));
    const inode = /^socket:\[(\d+)\]$/.exec(target ?? '')?.[1];
    if (inode !== undefined) inodes.add(Number(inode));
  }
  return inodes;
}

/** Processes and descriptors go away while one looks, and other users' are closed to us: neither is an error here. */
function attempt<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ESRCH' || code === 'EACCES' || code === 'EPERM') return undefined;
    throw error;
  }
}
