import { AF_UNIX, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_SEQPACKET } from './constants.ts';
import { closeFd } from './descriptors.ts';
import { SysError } from './errno.ts';
import { libc, type Libc } from './libc.ts';
import { sockaddrUnix } from './sockaddr.ts';
import { setTimeouts } from './socket-options.ts';

/**
 * Unix sockets that keep the borders of messages (SOCK_SEQPACKET), which Node's net does not offer; for descriptors on
 * the way to and from the keeper. Blocking, so for short conversations at start and hand-over. All throw SysError.
 */

/** Listens at a path that must not exist yet; the file's rights are the process's umask. */
export function listenSeqpacket(path: string): number {
  return opened(path, 'bind', (c, fd, sockaddr) => {
    const bound = c.bind(fd, sockaddr, sockaddr.length);
    return bound < 0 ? bound : c.listen(fd, 4);
  });
}

/**
 * ENOENT or ECONNREFUSED when nobody listens there. `wait_ms`: for as long as too many wait to be accepted there, and then for
 * each message, either way (0: the socket never blocks; not said: without end); EAGAIN after that.
 */
export function connectSeqpacket(path: string, o: Readonly<{ wait_ms?: number }> = {}): number {
  const { wait_ms } = o;
  const connect = (c: Libc, fd: number, sockaddr: Uint8Array) => {
    if (wait_ms) setTimeouts(fd, wait_ms);
    return c.connect(fd, sockaddr, sockaddr.length);
  };
  return opened(path, 'connect', connect, wait_ms === 0 ? SOCK_NONBLOCK : 0);
}

/** Waits for the next connection. */
export function acceptSeqpacket(listener: number): number {
  const c = libc();
  const fd = c.accept4(listener, null, null, SOCK_CLOEXEC);
  if (fd < 0) throw new SysError('accept', c.errno());
  return fd;
}

function opened(
  path: string,
  syscall: string,
  use: (c: Libc, fd: number, sockaddr: Uint8Array) => number,
  flags = 0,
): number {
  const c = libc();
  const sockaddr = sockaddrUnix(path);
  const fd = c.socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | flags, 0);
  if (fd < 0) throw new SysError('socket', c.errno(), 'AF_UNIX');
  if (use(c, fd, sockaddr) >= 0) return fd;
  const errno = c.errno();
  closeFd(fd);
  throw new SysError(syscall, errno, path);
}
