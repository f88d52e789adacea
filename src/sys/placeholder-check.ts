import {
  ENOTCONN,
  IPPROTO_ICMP,
  IPPROTO_ICMPV6,
  IPPROTO_TCP,
  IPPROTO_UDP,
  SOL_SOCKET,
  SO_ACCEPTCONN,
  SO_MARK,
  SO_PROTOCOL,
  SO_REUSEADDR,
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
