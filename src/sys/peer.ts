import { SOL_SOCKET, SO_PEERCRED } from './constants.ts';
import { SysError } from './errno.ts';
import { libc } from './libc.ts';

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
