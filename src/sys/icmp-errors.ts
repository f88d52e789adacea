import {
  AF_INET,
  AF_INET6,
  ICMP_FILTER,
  ICMPV6_FILTER,
  IPPROTO_ICMP,
  IPPROTO_ICMPV6,
  SO_BINDTODEVICE,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_RAW,
  SOL_RAW,
  SOL_SOCKET,
} from './constants.ts';
import { abandon } from './descriptors.ts';
import { libc } from './libc.ts';

/** Unreachable, time exceeded, parameter problem (RFC 792); unreachable, too big, time exceeded, parameter problem (RFC 4443). */
const errorTypes = { 4: [3, 11, 12], 6: [1, 2, 3, 4] } as const;
const loopback = Buffer.from('lo\0');

/**
 * A socket that hears the ICMP errors which this host's kernel sends to addresses of its own, and no others: a copy of each, so
 * that whoever else they are for hears them as well. What is read begins with the ICMP header; over IPv4 with the IP header before
 * it. A descriptor, or -errno (-EPERM without CAP_NET_RAW).
 */
export function openIcmpErrors(family: 4 | 6): number {
  const c = libc();
  const [domain, protocol] = family === 4 ? [AF_INET, IPPROTO_ICMP] : [AF_INET6, IPPROTO_ICMPV6];
  const fd = c.socket(domain, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
  if (fd < 0) return -c.errno();
  // What comes from outside is steered, or none of ours. Before the filter nothing has come, or it would have been from there.
  if (c.setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, loopback, loopback.length) < 0) return abandon(fd, -c.errno());
  // One bit for each type; those that are set are not wanted. ICMP's has room for types below 32, and lets all others pass.
  const filter = new Uint32Array(new ArrayBuffer(family === 4 ? 4 : 32)).fill(0xffff_ffff);
  for (const type of errorTypes[family]) filter[0]! &= ~(1 << type);
  const bytes = new Uint8Array(filter.buffer);
  const [level, option] = family === 4 ? [SOL_RAW, ICMP_FILTER] : [IPPROTO_ICMPV6, ICMPV6_FILTER];
  return c.setsockopt(fd, level, option, bytes, bytes.length) < 0 ? abandon(fd, -c.errno()) : fd;
}
