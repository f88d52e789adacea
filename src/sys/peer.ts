import { ENOPROTOOPT, SO_PEERCRED, SO_PEERPIDFD, SOL_SOCKET } from './constants.ts';
import { closeFd } from './descriptors.ts';
import { SysError } from './errno.ts';
import { libc } from './libc.ts';
import { waitReadable } from './wait.ts';

/**
 * Who is at the other end of a Unix socket (SO_PEERCRED), as of its connect() and in this process's namespaces. The pid
 * may belong to another process by now; the uid is what to decide by. Throws SysError.
 */
export function peerCredentials(fd: number): { pid: number; uid: number; gid: number } {
  const c = libc();
  const credentials = new Int32Array(new ArrayBuffer(12));
  const length = new Int32Array(new ArrayBuffer(4)).fill(12);
  if (c.getsockopt(fd, SOL_SOCKET, SO_PEERCRED, credentials, length) < 0)
    throw new SysError('getsockopt', c.errno(), 'SO_PEERCRED');
  const [pid = 0, uid = 0, gid = 0] = credentials;
  return { pid, uid: uid >>> 0, gid: gid >>> 0 };
}

/**
 * Whether the process that connected lives (SO_PEERPIDFD, Linux 6.5): then what was read by its pid before the call is about no
 * other. Undefined where the kernel cannot tell. Throws SysError.
 */
export function peerLives(fd: number): boolean | undefined {
  const c = libc();
  const answer = new Int32Array(new ArrayBuffer(4)).fill(-1);
  const length = new Int32Array(new ArrayBuffer(4)).fill(4);
  if (c.getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, answer, length) < 0)
    // For whoever is dead and buried there is no descriptor, and kernels differ in how they say so.
    return c.errno() === ENOPROTOOPT ? undefined : false;
  const [pidFd = -1] = answer;
  try {
    const ended = waitReadable(answer, 1, 0);
    if (ended < 0) throw new SysError('poll', -ended, `pidfd ${pidFd}`);
    return ended === 0;
  } finally {
    closeFd(pidFd);
  }
}
