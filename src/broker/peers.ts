import type { Server, Socket } from 'node:net';
import { err, ok, type Result } from '../net/result.ts';
import { peerCredentials } from '../sys/peer.ts';
import type { Holder } from '../wire/machines.ts';
import type { Principal } from '../api/principal.ts';

export type Peer = Readonly<{ pid: number; uid: number; gid: number }>;
/** Who is known here: the holders of this machine, as the server says. */
export type KnownHolders = Iterable<Pick<Holder, 'name' | 'uid' | 'cgroup'>>;

/** Whose processes are at the other ends of a server's Unix sockets: as the kernel told when each connected. */
export class Peers {
  readonly #peers = new WeakMap<Socket, Peer>();

  watch(server: Server): void {
    server.on('connection', (socket) => {
      const peer = peerOf(socket);
      // Whoever is gone already has nothing to ask.
      if (peer) this.#peers.set(socket, peer);
    });
  }

  of(socket: Socket): Peer | undefined {
    return this.#peers.get(socket);
  }
}

function peerOf(socket: Socket): Peer | undefined {
  const fd = descriptorOf(socket);
  return fd === undefined ? undefined : peerCredentials(fd);
}

/** Node has no word for it. The handle is there from the first moment until the socket is closed. */
function descriptorOf(socket: Socket): number | undefined {
  if (!('_handle' in socket)) return undefined;
  const { _handle: handle } = socket;
  if (typeof handle !== 'object' || handle === null || !('fd' in handle)) return undefined;
  return typeof handle.fd === 'number' && handle.fd >= 0 ? handle.fd : undefined;
}

const noQuota = { requestsPerS: null, requestsBurst: null, watchersMax: null } as const;

/** What a caller may do who is told by the connection. Keys of requests are scoped by the user: below 0, where no token is. */
const principal = (peer: Peer, name: string, may: Pick<Principal, 'role' | 'machine' | 'holder'>): Principal => ({
  ...{ token: -1 - peer.uid, name, router: null, quota: noQuota, secretHash: '', validUntil: Infinity },
  ...may,
});

/**
 * Which holder a process may be: by its user id, or by the control group that it is in. Root is the operator of this machine.
 * The error is one line for people.
 */
export function principalOfPeer(
  peer: Peer,
  machine: string,
  holders: KnownHolders,
  cgroupOf: (pid: number) => string | undefined,
): Result<Principal, string> {
  if (peer.uid === 0) return ok(principal(peer, 'root', { role: 'operator', machine: null, holder: null }));
  const byCgroup: Pick<Holder, 'name' | 'cgroup'>[] = [];
  for (const holder of holders) {
    if (holder.uid === peer.uid)
      return ok(principal(peer, `uid ${peer.uid}`, { role: 'holder', machine, holder: holder.name }));
    if (holder.cgroup !== null) byCgroup.push(holder);
  }
  const cgroup = byCgroup.length === 0 ? undefined : cgroupOf(peer.pid);
  const found = byCgroup.find(
    (holder) => cgroup !== undefined && (cgroup === holder.cgroup || cgroup.startsWith(`${holder.cgroup}/`)),
  );
  if (found)
    return ok(principal(peer, `uid ${peer.uid} in ${found.cgroup}`, { role: 'holder', machine, holder: found.name }));
  const inside = cgroup === undefined ? '' : `, nor has its control group ${cgroup}`;
  return err(`no holder of machine "${machine}" has user id ${peer.uid}${inside}`);
}
