import {
  AF_INET,
  AF_INET6,
  EINVAL,
  IPPROTO_ICMP,
  IPPROTO_ICMPV6,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  SOL_SOCKET,
  SOL_TCP,
  SO_RCVBUF,
  SO_REUSEADDR,
  TCP_FASTOPEN_CONNECT,
  TCP_FASTOPEN_NO_COOKIE,
} from './constants.ts';
import { abandon } from './descriptors.ts';
import { libc } from './libc.ts';
import { familyConstant, isBindablePort, sockaddr4, sockaddr6, sockaddrOf } from './sockaddr.ts';
import { requirePort, setMark, setOption, takePortInConnect } from './socket-options.ts';

/**
 * Placeholders: sockets that nobody reads, held so that nobody else can take a port or a 5-tuple. Every function
 * returns a descriptor (0 or more) or -errno, and allocates nothing. `mark` 0 means none; another one needs
 * CAP_NET_ADMIN (else -EPERM). A port outside 1-65535 is -EINVAL: 0 would let the kernel choose one.
 */

/** `late`: the port is taken in connect(). `explicit`: it is taken by bind() with SO_REUSEADDR. */
export type Binding = 'late' | 'explicit';

/**
 * A whole port of one address, exclusively: bound, and nothing else. -EADDRINUSE when anybody has it (a wildcard
 * listener, a proxy's connection, another placeholder), -EADDRNOTAVAIL when the address is not on this host.
 *
 * Without SO_REUSEADDR on purpose: with it, every other socket that sets it could bind too. TCP placeholders of this
 * kind are in no lookup table of the kernel, so packets are never delivered to them. UDP ones are found, and would
 * queue strays that nobody reads: their buffer is made as small as the kernel allows.
 */
export function openBound(address: Uint8Array, port: number, protocol: 'tcp' | 'udp', mark: number): number {
  if (!isBindablePort(port)) return -EINVAL;
  const c = libc();
  const type = protocol === 'tcp' ? SOCK_STREAM : SOCK_DGRAM;
  const fd = c.socket(familyConstant(address), type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -c.errno();
  let refusal = setMark(fd, mark);
  if (refusal === 0 && protocol === 'udp') refusal = setOption(fd, SOL_SOCKET, SO_RCVBUF, 0);
  if (refusal < 0) return abandon(fd, refusal);
  return bindOrAbandon(fd, sockaddrOf(address, port));
}

/**
 * An ICMP or ICMPv6 echo identifier. Identifiers collide across ALL addresses of the host, and across both families:
 * one placeholder per identifier is all there can be. -EADDRINUSE when a ping socket has it, -EACCES when
 * net.ipv4.ping_group_range does not include the caller's group (the default includes nobody, not even root), -EINVAL
 * for identifier 0, which bind() reads as "any". Raw sockets are not stopped by it.
 */
export function openPing(address: Uint8Array, identifier: number): number {
  if (!isBindablePort(identifier)) return -EINVAL;
  const c = libc();
  const protocol = address.length === 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6;
  const fd = c.socket(familyConstant(address), SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
  if (fd < 0) return -c.errno();
  // Ping sockets are born with SO_REUSEADDR, which lets every other ping socket share the identifier.
  let refusal = setOption(fd, SOL_SOCKET, SO_REUSEADDR, 0);
  if (refusal === 0) refusal = setOption(fd, SOL_SOCKET, SO_RCVBUF, 0);
  if (refusal < 0) return abandon(fd, refusal);
  return bindOrAbandon(fd, sockaddrOf(address, identifier));
}

/**
 * One TCP 5-tuple over IPv4: a Fast Open socket after connect(), which waits in SYN-SENT for a first write that never
 * comes. Nothing is sent, and closing it leaves no TIME_WAIT. `address` and `remote` are unsigned 32-bit numbers.
 *
 * Expected refusals: -EADDRNOTAVAIL (`late`: the 5-tuple or the whole port is taken, or the port lies outside
 * net.ipv4.ip_local_port_range or inside ip_local_reserved_ports; both: address not on this host), -EADDRINUSE
 * (`explicit`: the port is taken without SO_REUSEADDR), -ENETUNREACH and -EINVAL (no route, a blackhole route),
 * -EOPNOTSUPP (net.ipv4.tcp_fastopen without bit 0), -EINPROGRESS (Fast Open in its blackhole pause), -EMFILE.
 *
 * Choose the binding of the block's other users: late placeholders share a port with late binders only, and explicit
 * ones with explicit binders that set SO_REUSEADDR; across the two, one placeholder shuts the whole port. With very
 * many explicit ones on ONE port bind() walks them all (0.4 ms at 4,000); late ones stay at microseconds.
 */
export function openConnected4(
  address: number,
  port: number,
  remote: number,
  remotePort: number,
  binding: Binding,
  mark: number,
): number {
  if (!isBindablePort(port) || !isBindablePort(remotePort)) return -EINVAL;
  const fd = fastOpenSocket(AF_INET, port, binding, mark);
  if (fd < 0) return fd;
  const c = libc();
  if (c.bind(fd, sockaddr4(address, binding === 'late' ? 0 : port), 16) < 0) return abandon(fd, -c.errno());
  return connectOrAbandon(fd, sockaddr4(remote, remotePort), port);
}

/** As openConnected4, over IPv6; addresses are 16 bytes in network order. */
export function openConnected6(
  address: Uint8Array,
  port: number,
  remote: Uint8Array,
  remotePort: number,
  binding: Binding,
  mark: number,
): number {
  if (!isBindablePort(port) || !isBindablePort(remotePort)) return -EINVAL;
  const fd = fastOpenSocket(AF_INET6, port, binding, mark);
  if (fd < 0) return fd;
  const c = libc();
  if (c.bind(fd, sockaddr6(address, binding === 'late' ? 0 : port), 28) < 0) return abandon(fd, -c.errno());
  return connectOrAbandon(fd, sockaddr6(remote, remotePort), port);
}

function fastOpenSocket(family: number, port: number, binding: Binding, mark: number): number {
  const c = libc();
  // Non-blocking, because a socket for which Fast Open is refused in connect() would otherwise wait for a handshake.
  const fd = c.socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -c.errno();
  // Checked one by one: without Fast Open, connect() below would be an ordinary one, and send a SYN.
  let refusal = setOption(fd, SOL_TCP, TCP_FASTOPEN_CONNECT, 1);
  if (refusal === 0) refusal = setOption(fd, SOL_TCP, TCP_FASTOPEN_NO_COOKIE, 1);
  if (refusal === 0) refusal = setMark(fd, mark);
  if (refusal === 0)
    refusal = binding === 'late' ? takePortInConnect(fd, port, port) : setOption(fd, SOL_SOCKET, SO_REUSEADDR, 1);
  return refusal < 0 ? abandon(fd, refusal) : fd;
}

function bindOrAbandon(fd: number, sockaddr: Uint8Array): number {
  const c = libc();
  return c.bind(fd, sockaddr, sockaddr.length) < 0 ? abandon(fd, -c.errno()) : fd;
}

/**
 * connect() with Fast Open answers 0 at once. EINPROGRESS means that it was not deferred after all, which the kernel does
 * while its Fast Open blackhole detection is in force (net.ipv4.tcp_fastopen_blackhole_timeout_sec, off by default).
 */
function connectOrAbandon(fd: number, remote: Uint8Array, port: number): number {
  const c = libc();
  if (c.connect(fd, remote, remote.length) < 0) return abandon(fd, -c.errno());
  const refusal = requirePort(fd, port);
  return refusal < 0 ? abandon(fd, refusal) : fd;
}
