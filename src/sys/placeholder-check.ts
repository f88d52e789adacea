import {
  AF_INET,
  ENOTCONN,
  IPPROTO_ICMP,
  IPPROTO_ICMPV6,
  IPPROTO_TCP,
  IPPROTO_UDP,
  SOL_SOCKET,
  SOL_TCP,
  SO_ACCEPTCONN,
  SO_MARK,
  SO_PEERNAME,
  SO_PROTOCOL,
  SO_REUSEADDR,
  TCP_INFO,
} from './constants.ts';
import { libc } from './libc.ts';
import { familyConstant, portIn } from './sockaddr.ts';
import { localPortOf, optionOf } from './socket-options.ts';

const name = new Uint8Array(new ArrayBuffer(128));
const length = new Int32Array(new ArrayBuffer(4));

/**
 * Whether a descriptor is what `openBound` opens: asked of the descriptor itself, because sock_diag shows bound TCP sockets
 * on newer kernels only. Anything may be given, also what is no socket.
 */
export function isBound(fd: number, address: Uint8Array, port: number, protocol: 'tcp' | 'udp', mark: number): boolean {
  const number = protocol === 'tcp' ? IPPROTO_TCP : IPPROTO_UDP;
  return (
    optionOf(fd, SOL_SOCKET, SO_PROTOCOL) === number &&
    isNamed(fd, address, port) &&
    // What listens, or is connected, is delivered packets, or answers them.
    optionOf(fd, SOL_SOCKET, SO_ACCEPTCONN) === 0 &&
    hasNoPeer(fd) &&
    optionOf(fd, SOL_SOCKET, SO_REUSEADDR) === 0 &&
    optionOf(fd, SOL_SOCKET, SO_MARK) === (mark | 0)
  );
}

/** Whether a descriptor is what `openPing` opens, of either family: an identifier is the whole host's. */
export function isPing(fd: number, identifier: number): boolean {
  const protocol = optionOf(fd, SOL_SOCKET, SO_PROTOCOL);
  return (
    (protocol === IPPROTO_ICMP || protocol === IPPROTO_ICMPV6) &&
    localPortOf(fd) === identifier &&
    optionOf(fd, SOL_SOCKET, SO_REUSEADDR) === 0
  );
}

/** A 5-tuple of TCP: addresses of 4 or 16 bytes in network order, in memory that the next answer is written to. */
export type TcpNames = Readonly<{ local: Uint8Array; port: number; remote: Uint8Array; remotePort: number }>;

const peer = new Uint8Array(new ArrayBuffer(128));
const tcpInfo = new Uint8Array(new ArrayBuffer(28));
const unackedAt = 24;
const SYN_SENT = 2;
const sockaddrBytes = { 4: 16, 6: 28 } as const;

/**
 * Which 5-tuple a descriptor holds, if it is what `openConnected4` and `openConnected6` open, with this mark: connected by Fast
 * Open and still silent. undefined for anything else, also for one that the kernel has given up (an ICMP error that reached it,
 * a reset), whose 5-tuple may be somebody else's by now.
 *
 * getpeername(2) tells nothing of a socket in SYN-SENT; SO_PEERNAME does, if asked for no more bytes than its name has.
 */
export function namesOfConnected(fd: number, mark: number): TcpNames | undefined {
  const c = libc();
  length[0] = name.length;
  if (c.getsockname(fd, name, length) < 0) return undefined;
  const family = name[0] === AF_INET ? 4 : 6;
  length[0] = sockaddrBytes[family];
  if (c.getsockopt(fd, SOL_SOCKET, SO_PEERNAME, peer, length) < 0 || peer[0] !== name[0]) return undefined;
  length[0] = tcpInfo.length;
  // Only TCP answers. A SYN that is on its way is unacknowledged.
  if (c.getsockopt(fd, SOL_TCP, TCP_INFO, tcpInfo, length) < 0) return undefined;
  if (tcpInfo[0] !== SYN_SENT || tcpInfo[unackedAt] !== 0) return undefined;
  if (optionOf(fd, SOL_SOCKET, SO_MARK) !== (mark | 0)) return undefined;
  const [from, to] = family === 4 ? [4, 8] : [8, 24];
  return {
    local: name.subarray(from, to),
    port: portIn(name),
    remote: peer.subarray(from, to),
    remotePort: portIn(peer),
  };
}

function isNamed(fd: number, address: Uint8Array, port: number): boolean {
  length[0] = name.length;
  if (libc().getsockname(fd, name, length) < 0) return false;
  if (name[0] !== familyConstant(address) || portIn(name) !== port) return false;
  const at = address.length === 4 ? 4 : 8;
  return address.every((byte, index) => name[at + index] === byte);
}

function hasNoPeer(fd: number): boolean {
  const c = libc();
  length[0] = name.length;
  return c.getpeername(fd, name, length) < 0 && c.errno() === ENOTCONN;
}
