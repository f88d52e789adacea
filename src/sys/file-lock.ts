import { SysError } from './errno.ts';
import { libc } from './libc.ts';

/** Of <sys/file.h>. */
const LOCK_EX = 2;
const LOCK_NB = 4;
const EWOULDBLOCK = 11;

/**
 * Takes the whole file behind a descriptor for this open file alone; false when somebody else has it. The kernel lets it
 * go with the last descriptor of this opening, however its process ends.
 */
export function tryLock(fd: number): boolean {
  const c = libc();
  if (c.flock(fd, LOCK_EX | LOCK_NB) === 0) return true;
  const errno = c.errno();
  if (errno === EWOULDBLOCK) return false;
  throw new SysError('flock', errno, `descriptor ${fd}`);
}
