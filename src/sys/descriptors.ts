import { EBADF, O_NONBLOCK } from './constants.ts';
import { SysError } from './errno.ts';
import { libc } from './libc.ts';

const F_GETFL = 3;
const F_SETFL = 4;
const RLIMIT_NOFILE = 7;

/**
 * Closes a descriptor. Never repeated, whatever close() answers: Linux gives the number up first, and a second try could
 * close what another thread has just opened. A descriptor that was not open is a bug of that very kind, and throws.
 */
export function closeFd(fd: number): void {
  const c = libc();
  if (c.close(fd) < 0 && c.errno() === EBADF) throw new SysError('close', EBADF, `descriptor ${fd}`);
}

/** Closes a socket that could not be set up and passes the refusal on: `return abandon(fd, -EADDRINUSE)`. */
export function abandon(fd: number, refusal: number): number {
  closeFd(fd);
  return refusal;
}

export function setNonBlocking(fd: number): void {
  const c = libc();
  const flags = c.fcntl(fd, F_GETFL, 0);
  if (flags < 0 || c.fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
    throw new SysError('fcntl', c.errno(), `descriptor ${fd}`);
}

/**
 * Raises the soft limit of open descriptors to the hard one: a placeholder is a descriptor. The hard limit is the
 * service unit's business (LimitNOFILE): raising it takes CAP_SYS_RESOURCE. An unlimited value reads as Infinity.
 */
export function raiseDescriptorLimit(): { soft: number; hard: number } {
  const c = libc();
  const limits = new Uint8Array(new ArrayBuffer(16));
  const view = new DataView(limits.buffer);
  if (c.getrlimit(RLIMIT_NOFILE, limits) < 0) throw new SysError('getrlimit', c.errno());
  const hard = view.getBigUint64(8, true);
  if (view.getBigUint64(0, true) !== hard) {
    view.setBigUint64(0, hard, true);
    if (c.setrlimit(RLIMIT_NOFILE, limits) < 0) throw new SysError('setrlimit', c.errno(), `RLIMIT_NOFILE ${hard}`);
  }
  const limit = hard === 0xffff_ffff_ffff_ffffn ? Infinity : Number(hard);
  return { soft: limit, hard: limit };
}
