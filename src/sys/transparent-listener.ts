import {
  EINVAL,
  IP_TRANSPARENT,
  IPV6_TRANSPARENT,
  IPV6_V6ONLY,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  SOL_IP,
  SOL_IPV6,
  SOL_SOCKET,
  SO_LINGER,
  SO_REUSEADDR,
} from './constants.ts';
import { abandon } from './descriptors.ts';
import { libc } from './libc.ts';
import { familyConstant, isBindablePort, sockaddrOf } from './sockaddr.ts';
import { setOption } from './socket-options.ts';

/**
 * A TCP listener that connections to any address may be led to (tproxy of nftables): what it accepts has the address that the
 * client meant as its own local address. Returns a non-blocking descriptor or -errno: -EPERM without CAP_NET_ADMIN or
 * CAP_NET_RAW, -EADDRINUSE.
 */
export function listenTransparent(address: Uint8Array, port: number, backlog: number): number {
  if (!isBindablePort(port)) return -EINVAL;
  const c = libc();
  const fd = c.socket(familyConstant(address), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -c.errno();
  // Connections of the last listener that linger are no reason not to listen.
  let refusal = setOption(fd, SOL_SOCKET, SO_REUSEADDR, 1);
  if (refusal === 0 && address.length === 4) refusal = setOption(fd, SOL_IP, IP_TRANSPARENT, 1);
  if (refusal === 0 && address.length !== 4) refusal = setOption(fd, SOL_IPV6, IPV6_TRANSPARENT, 1);
  if (refusal === 0 && address.length !== 4) refusal = setOption(fd, SOL_IPV6, IPV6_V6ONLY, 1);
  if (refusal < 0) return abandon(fd, refusal);
  const sockaddr = sockaddrOf(address, port);
  if (c.bind(fd, sockaddr, sockaddr.length) < 0) return abandon(fd, -c.errno());
  return c.listen(fd, backlog) < 0 ? abandon(fd, -c.errno()) : fd;
}

/** struct linger: on or off, for no time at all. */
const linger = new Uint8Array(new ArrayBuffer(8));

/**
 * Whether closing this TCP socket, by whomever or by the end of its process, resets its peer and throws away what was not sent
 * yet. 0 or -errno.
 */
export function resetOnClose(fd: number, resets: boolean): number {
  const c = libc();
  linger[0] = Number(resets);
  return c.setsockopt(fd, SOL_SOCKET, SO_LINGER, linger, linger.length) < 0 ? -c.errno() : 0;
}
