import { O_CLOEXEC, O_RDONLY } from './constants.ts';
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
