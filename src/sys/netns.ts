import { AF_UNIX, O_CLOEXEC, O_RDONLY, SO_NETNS_COOKIE, SOCK_CLOEXEC, SOCK_DGRAM, SOL_SOCKET } from './constants.ts';
import { closeFd } from './descriptors.ts';
import { SysError } from './errno.ts';
import { libc } from './libc.ts';

const CLONE_NEWNET = 0x4000_0000;

/**
 * Moves the CALLING THREAD into a network namespace (`/run/netns/NAME`). Threads and processes that it starts follow;
 * libuv's pool does not, so dns.lookup and fs callbacks stay behind. For demonstrations and test scripts: the product
 * stays where it was started. Throws SysError.
 */
export function enterNetns(path: string): void {
  const c = libc();
  const fd = c.open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw new SysError('open', c.errno(), path);
  const errno = c.setns(fd, CLONE_NEWNET) < 0 ? c.errno() : 0;
  closeFd(fd);
  if (errno !== 0) throw new SysError('setns', errno, path);
}

/**
 * The number of the calling thread's network namespace, which no other gets until the machine is started anew (SO_NETNS_COOKIE,
 * Linux 5.14); undefined where the kernel knows none. Throws SysError.
 */
export function netnsCookie(): bigint | undefined {
  const c = libc();
  const fd = c.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) throw new SysError('socket', c.errno(), 'AF_UNIX');
  const cookie = new Uint8Array(new ArrayBuffer(8));
  const length = new Int32Array(new ArrayBuffer(4)).fill(8);
  const refused = c.getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, cookie, length) < 0;
  closeFd(fd);
  return refused ? undefined : new DataView(cookie.buffer).getBigUint64(0, true);
}
