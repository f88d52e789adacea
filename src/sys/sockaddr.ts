import { AF_INET, AF_INET6, AF_UNIX, EINVAL } from './constants.ts';
import { SysError } from './errno.ts';

/**
 * struct sockaddr_in, sockaddr_in6 and sockaddr_un. One buffer per family, written in place: what these functions
 * return is valid until the next call, and costs no allocation.
 */
const inet4 = new Uint8Array(new ArrayBuffer(16));
const inet6 = new Uint8Array(new ArrayBuffer(28));
// The family is in host order; both supported machines are little-endian.
inet4[0] = AF_INET;
inet6[0] = AF_INET6;

/** IPv4 address as an unsigned 32-bit number. */
export function sockaddr4(address: number, port: number): Uint8Array {
  inet4[2] = port >>> 8;
  inet4[3] = port;
  inet4[4] = address >>> 24;
  inet4[5] = address >>> 16;
  inet4[6] = address >>> 8;
  inet4[7] = address;
  return inet4;
}

/** IPv6 address as 16 bytes; flow label and scope stay zero, so link-local addresses are out. */
export function sockaddr6(address: Uint8Array, port: number): Uint8Array {
  // A shorter one would leave bytes of the address before it in place and bind something nobody asked for.
  if (address.length !== 16) throw new RangeError(`an IPv6 address has 16 bytes, not ${address.length}`);
  inet6[2] = port >>> 8;
  inet6[3] = port;
  inet6.set(address, 8);
  return inet6;
}

/** An address of either family in network order; its length (4 or 16 bytes) says which. */
export function sockaddrOf(address: Uint8Array, port: number): Uint8Array {
  if (address.length !== 4) return sockaddr6(address, port);
  return sockaddr4(address[0]! * 0x1000000 + (address[1]! << 16) + (address[2]! << 8) + address[3]!, port);
}

/** AF_INET or AF_INET6 by the length of an address. */
export const familyConstant = (address: Uint8Array): number => (address.length === 4 ? AF_INET : AF_INET6);

/** A Unix socket at a path, terminated by a zero byte. Allocates: paths are not for hot code. */
export function sockaddrUnix(path: string): Uint8Array {
  const sockaddr = new Uint8Array(new ArrayBuffer(110));
  const bytes = Buffer.from(path);
  if (bytes.length === 0 || bytes.length > 107 || bytes.includes(0))
    throw new SysError('sockaddr_un', EINVAL, `a path of 1 to 107 bytes is needed: ${path}`);
  sockaddr[0] = AF_UNIX;
  sockaddr.set(bytes, 2);
  return sockaddr;
}

/** A Unix socket with a name of this network namespace instead of a path: as long as the name, without a byte behind it. */
export function sockaddrAbstract(name: string): Uint8Array {
  const bytes = Buffer.from(name);
  if (bytes.length === 0 || bytes.length > 107)
    throw new SysError('sockaddr_un', EINVAL, `a name of 1 to 107 bytes is needed: ${name}`);
  const sockaddr = new Uint8Array(new ArrayBuffer(3 + bytes.length));
  sockaddr[0] = AF_UNIX;
  sockaddr.set(bytes, 3);
  return sockaddr;
}

/** A port in a sockaddr that the kernel filled in, of either family. */
export const portIn = (sockaddr: Uint8Array): number => (sockaddr[2]! << 8) | sockaddr[3]!;

/** Whether a socket can be asked to take exactly this port; 0 would let the kernel choose, more would wrap around. */
export const isBindablePort = (port: number): boolean => port > 0 && port <= 65_535 && Number.isInteger(port);
