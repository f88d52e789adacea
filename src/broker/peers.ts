import { createHash } from 'node:crypto';
import type { Socket } from 'node:net';
import { err, ok, type Result } from '../net/result.ts';
import { peerCredentials, peerLives } from '../sys/peer.ts';
import type { Holder } from '../wire/machines.ts';
import type { Principal } from '../api/principal.ts';

/** Whose process connected. `cgroup`: the control group that it was in then, as a path below the cgroup2 mount. */
export type Peer = Readonly<{ pid: number; uid: number; gid: number; cgroup: string | undefined }>;
/** Who is known here: the holders of this machine, as the server says. */
export type KnownHolders = Iterable<Pick<Holder, 'name' | 'uid' | 'cgroup'>>;

/**
 * Whose process is at the other end of a Unix socket, as the kernel says. Asked once, when it connects: later the number of
 * the process may be another's. It may be by now, when whoever connected has left the connection to a child and is gone; so a
 * control group counts only when it still lives after that was read. Undefined when the connection is gone.
 */
export function peerOf(socket: Socket, cgroupOf: (pid: number) => string | undefined): Peer | undefined {
  const fd = descriptorOf(socket);
  if (fd === undefined) return undefined;
  const peer = peerCredentials(fd);
  if (peer.uid === 0) return { ...peer, cgroup: undefined };
  const cgroup = cgroupOf(peer.pid);
  // Before Linux 6.5 nobody can tell, and what was read at once is the best there is.
  return { ...peer, cgroup: cgroup === undefined || peerLives(fd) === false ? undefined : cgroup };
}

/** Node has no word for it. The handle is there from the first moment until the socket is closed. */
function descriptorOf(socket: Socket): number | undefined {
  if (!('_handle' in socket)) return undefined;
  const { _handle: handle } = socket;
  if (typeof handle !== 'object' || handle === null || !('fd' in handle)) return undefined;
  return typeof handle.fd === 'number' && handle.fd >= 0 ? handle.fd : undefined;
}

const noQuota = { requestsPerS: null, requestsBurst: null, watchersMax: null } as const;
/** For what is read; sessions and leases are what a broker is for, and as many as connections are under way at most. */
const quotaOfHolder = { requestsPerS: 200, requestsBurst: 400, watchersMax: null } as const;

/**
 * Keys of requests are scoped by who asks: a user as a holder, for one user may be several in several control groups. Below 0,
 * where no token is; the same after a restart, and of 52 bits, so that no two on a machine are alike.
 */
function scopeOfKeys({ uid }: Peer, holder: string | null): number {
  if (holder === null) return -1;
  const digest = createHash('sha256').update(`${uid} ${holder}`).digest();
  return -2 - Number(digest.readBigUInt64BE() >> 12n);
}

/** What a caller may do who is told by the connection. */
const principal = (peer: Peer, name: string, may: Pick<Principal, 'role' | 'machine' | 'holder'>): Principal => ({
  ...{ token: scopeOfKeys(peer, may.holder), name, router: null, secretHash: '', validUntil: Infinity },
  quota: may.role === 'operator' ? noQuota : quotaOfHolder,
  ...may,
});

/**
 * Which holder a process may be: by its user id, or by the control group that it is in. Root is the operator of this machine.
 * The error is one line for people.
 */
export function principalOfPeer(peer: Peer, machine: string, holders: KnownHolders): Result<Principal, string> {
  if (peer.uid === 0) return ok(principal(peer, 'root', { role: 'operator', machine: null, holder: null }));
  const byCgroup: Pick<Holder, 'name' | 'cgroup'>[] = [];
  for (const holder of holders) {
    if (holder.uid === peer.uid)
      return ok(principal(peer, `uid ${peer.uid}`, { role: 'holder', machine, holder: holder.name }));
    if (holder.cgroup !== null) byCgroup.push(holder);
  }
  const { cgroup } = peer;
  const found = byCgroup.find(
    (holder) => cgroup !== undefined && (cgroup === holder.cgroup || cgroup.startsWith(`${holder.cgroup}/`)),
  );
  if (found)
    return ok(principal(peer, `uid ${peer.uid} in ${found.cgroup}`, { role: 'holder', machine, holder: found.name }));
  const inside = cgroup === undefined || byCgroup.length === 0 ? '' : `, nor has its control group ${cgroup}`;
  return err(`no holder of machine "${machine}" has user id ${peer.uid}${inside}`);
}
