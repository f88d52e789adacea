import {
  EADDRNOTAVAIL,
  IP_BIND_ADDRESS_NO_PORT,
  IP_LOCAL_PORT_RANGE,
  SOL_IP,
  SOL_SOCKET,
  SO_MARK,
  SO_RCVTIMEO,
  SO_SNDTIMEO,
} from './constants.ts';
import { SysError } from './errno.ts';
import { libc } from './libc.ts';
import { portIn } from './sockaddr.ts';

const value = new Int32Array(new ArrayBuffer(4));
const length = new Int32Array(new ArrayBuffer(4));
const name = new Uint8Array(new ArrayBuffer(128));

/** An integer socket option; 0 or -errno. */
export function setOption(fd: number, level: number, option: number, to: number): number {
  value[0] = to;
  const c = libc();
  return c.setsockopt(fd, level, option, value, 4) < 0 ? -c.errno() : 0;
}

/** An integer socket option as the kernel has it, of which any 32 bits may be set; undefined when it has none to tell. */
export function optionOf(fd: number, level: number, option: number): number | undefined {
  length[0] = 4;
  return libc().getsockopt(fd, level, option, value, length) < 0 ? undefined : value[0];
}

/** A blocking send or receive that takes longer answers -EAGAIN. Throws SysError. */
export function setTimeouts(fd: number, ms: number): void {
  const c = libc();
  const timeout = new DataView(new ArrayBuffer(16));
  timeout.setBigInt64(0, BigInt(Math.trunc(ms / 1_000)), true);
  timeout.setBigInt64(8, BigInt(Math.trunc(ms % 1_000) * 1_000), true);
  const bytes = new Uint8Array(timeout.buffer);
  for (const option of [SO_RCVTIMEO, SO_SNDTIMEO])
    if (c.setsockopt(fd, SOL_SOCKET, option, bytes, bytes.length) < 0)
      throw new SysError('setsockopt', c.errno(), `a time limit of ${ms} ms`);
}

/** SO_MARK, when there is one to set: 0 means none, and needs no privilege. 0 or -errno (EPERM without CAP_NET_ADMIN). */
export const setMark = (fd: number, mark: number): number =>
  mark === 0 ? 0 : setOption(fd, SOL_SOCKET, SO_MARK, mark);

/**
 * Makes bind(address, 0) take no port yet, and connect() take one of `first`-`last`. Both options sit at SOL_IP for
 * IPv6 sockets too. The kernel clamps the range to net.ipv4.ip_local_port_range WITHOUT an error, so whoever uses this
 * must look at the port after connect(). 0 or -errno.
 */
export function takePortInConnect(fd: number, first: number, last: number): number {
  const refused = setOption(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1);
  return refused < 0 ? refused : setOption(fd, SOL_IP, IP_LOCAL_PORT_RANGE, (last << 16) | first);
}

/** The local port of an IPv4 or IPv6 socket, 0 when it has none yet, or -errno. */
export function localPortOf(fd: number): number {
  const c = libc();
  length[0] = name.length;
  return c.getsockname(fd, name, length) < 0 ? -c.errno() : portIn(name);
}

/** 0 when the socket has exactly this port, else -EADDRNOTAVAIL: what a silent clamp looks like. */
export const requirePort = (fd: number, port: number): number => (localPortOf(fd) === port ? 0 : -EADDRNOTAVAIL);
