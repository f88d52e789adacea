import { EINVAL, SOCK_CLOEXEC, SOCK_DGRAM, SOCK_STREAM, SOL_SOCKET, SO_REUSEADDR } from './constants.ts';
import { abandon } from './descriptors.ts';
import { libc } from './libc.ts';
import { familyConstant, isBindablePort, sockaddrOf } from './sockaddr.ts';
import { setOption } from './socket-options.ts';

/**
 * A socket bound to a port, to be handed to a program that listens on it, or connects or sends from it. Returns a blocking
 * descriptor or -errno: -EADDRINUSE, -EADDRNOTAVAIL when the address is not on this host. A TCP one has SO_REUSEADDR:
 * otherwise connections of the program's last run would keep it from starting for the minute of their TIME_WAIT.
 */
export function bindSocket(address: Uint8Array, port: number, protocol: 'tcp' | 'udp'): number {
  if (!isBindablePort(port)) return -EINVAL;
  const c = libc();
  const type = protocol === 'tcp' ? SOCK_STREAM : SOCK_DGRAM;
  const fd = c.socket(familyConstant(address), type | SOCK_CLOEXEC, 0);
  if (fd < 0) return -c.errno();
  const refusal = protocol === 'tcp' ? setOption(fd, SOL_SOCKET, SO_REUSEADDR, 1) : 0;
  if (refusal < 0) return abandon(fd, refusal);
  const sockaddr = sockaddrOf(address, port);
  return c.bind(fd, sockaddr, sockaddr.length) < 0 ? abandon(fd, -c.errno()) : fd;
}
