import type { PortRange } from '../net/ports.ts';
import { EINVAL, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_STREAM, SOL_SOCKET, SO_REUSEADDR } from './constants.ts';
import { abandon } from './descriptors.ts';
import { libc } from './libc.ts';
import { familyConstant, isBindablePort, sockaddrOf } from './sockaddr.ts';
import { setOption, takePortInConnect } from './socket-options.ts';

export { localPortOf } from './socket-options.ts';

/**
 * A TCP socket for a proxy: bound to an address of the pool and prepared, not connected, so that whoever owns the event
 * loop does the connect(). Returns a non-blocking descriptor or -errno.
 *
 * - `late`: the port is taken in connect(), from `ports`. The kernel clamps the range to net.ipv4.ip_local_port_range
 *   without an error: compare `localPortOf(fd)` with `ports` once connected, before anybody uses the socket. When all
 *   ports are taken toward this remote, connect() says EADDRNOTAVAIL.
 * - `explicit`: `port` (one of `ports`) is taken now, by bind() with SO_REUSEADDR: -EADDRINUSE when a socket without
 *   SO_REUSEADDR or a late one has it. A 5-tuple that is taken shows as EADDRNOTAVAIL in connect().
 */
export function prepareSocket(o: {
  address: Uint8Array;
  ports: PortRange;
  binding: 'late' | 'explicit';
  port?: number;
}): number {
  const { first, last } = o.ports;
  if (!isBindablePort(first) || !isBindablePort(last) || first > last) return -EINVAL;
  const explicit = o.binding === 'explicit';
  const port = explicit ? o.port : 0;
  if (port === undefined || (explicit && !(port >= first && port <= last && isBindablePort(port)))) return -EINVAL;
  const c = libc();
  const fd = c.socket(familyConstant(o.address), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -c.errno();
  const refusal = explicit ? setOption(fd, SOL_SOCKET, SO_REUSEADDR, 1) : takePortInConnect(fd, first, last);
  if (refusal < 0) return abandon(fd, refusal);
  const sockaddr = sockaddrOf(o.address, port);
  return c.bind(fd, sockaddr, sockaddr.length) < 0 ? abandon(fd, -c.errno()) : fd;
}
