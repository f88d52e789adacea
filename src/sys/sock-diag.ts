import type { PortRange } from '../net/ports.ts';
import { AF_INET, AF_INET6, ENOENT } from './constants.ts';
import { SysError } from './errno.ts';
import { NETLINK_SOCK_DIAG, Netlink } from './netlink.ts';
import { pingSockets, type PingSocket } from './ping-sockets.ts';
import { coversAddress, readSocket, writeDestroy, writeSocketDump, type SocketInfo } from './sock-diag-message.ts';

export { processesOf } from './socket-owners.ts';
export type { PingSocket } from './ping-sockets.ts';
export type { SocketCookie, SocketInfo, SocketState } from './sock-diag-message.ts';

const dumpAttempts_max = 3;

/** Who holds a port on this host, as the kernel knows it; in the network namespace of the thread that made this object. */
export class SockDiag {
  readonly #netlink = new Netlink(NETLINK_SOCK_DIAG);

  /**
   * Every socket that holds one of these local ports for traffic of a family, in any state: listeners on all addresses,
   * TIME_WAIT, bound and nothing else. IPv6 sockets that carry IPv4 (a dual-stack listener, what most runtimes open) are
   * among the answers for 4. With `address`, only those that have it or all addresses.
   *
   * A list of a moving thing: a socket that changes its state meanwhile may be missing or be there twice.
   */
  sockets(q: { protocol: 'tcp' | 'udp'; family: 4 | 6; ports: PortRange; address?: string }): SocketInfo[] {
    const inet6 = this.#dump(q.protocol, AF_INET6, q.ports);
    const found =
      q.family === 6
        ? inet6.filter((socket) => socket.family === 6)
        : [...this.#dump(q.protocol, AF_INET, q.ports), ...inet6.filter(carriesIpv4)];
    const { address } = q;
    return address === undefined ? found : found.filter((socket) => coversAddress(socket, address));
  }

  /** The ping sockets with these identifiers, of both families: they share them. */
  pingSockets(q: { identifiers: PortRange }): PingSocket[] {
    return pingSockets(q.identifiers);
  }

  /**
   * Destroys exactly this socket (SOCK_DESTROY): 0, or -errno: -ENOENT when it is gone, or is one that cannot be destroyed
   * (TCP, bound and nothing else), -EPERM without CAP_NET_ADMIN, -EOPNOTSUPP when the kernel was built without it.
   *
   * The owner's next call fails with ECONNABORTED; the peer of an established connection gets a reset, one of a
   * placeholder nothing. A port that was taken by an explicit bind() is NOT freed: it stays held, as a socket that is
   * bound only, until its owner closes it. A UDP socket is disconnected and stays bound.
   */
  destroy(s: SocketInfo): number {
    const refusal = this.#netlink.exchange([writeDestroy(this.#netlink.start(), s)]);
    return refusal ? -refusal.errno : 0;
  }

  close(): void {
    this.#netlink.close();
  }

  #dump(protocol: 'tcp' | 'udp', family: number, ports: PortRange): SocketInfo[] {
    const list = this.#netlink.dumpWhole<SocketInfo>({
      write: (writer) => writeSocketDump(writer, { protocol, family, ports }),
      collect: (found, buffer, message) => {
        const socket = readSocket(buffer, message, protocol);
        if (socket) found.push(socket);
      },
      attempts_max: dumpAttempts_max,
    });
    if (list.ok) return list.value;
    const { errno, text } = list.error;
    throw new SysError('sock_diag', errno, errno === ENOENT ? 'is the kernel module inet_diag missing?' : text);
  }
}

/** An AF_INET6 socket on an IPv4 address, or on all addresses of both families. */
const carriesIpv4 = (socket: SocketInfo): boolean =>
  socket.family === 4 || (socket.localAddress === '::' && socket.ipv6Only !== true);
