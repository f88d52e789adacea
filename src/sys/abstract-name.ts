import { AF_UNIX, EADDRINUSE, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_STREAM } from './constants.ts';
import { closeFd } from './descriptors.ts';
import { SysError } from './errno.ts';
import { libc, type Libc } from './libc.ts';
import { peerCredentials } from './peer.ts';
import { sockaddrAbstract } from './sockaddr.ts';

/**
 * Names of Unix sockets that are no files (abstract ones): one set of them for each network namespace, whatever folders its
 * processes see. Anybody may take any that is free. Both throw SysError.
 */

/** A listening socket that has the name until it is closed; undefined where somebody else has it. */
export function takeName(name: string): number | undefined {
  return withSocket((c, fd) => {
    const sockaddr = sockaddrAbstract(name);
    if (c.bind(fd, sockaddr, sockaddr.length) < 0) return refusal(c, 'bind', name, EADDRINUSE);
    // In this order there is a moment in which it is had and nobody listens.
    if (c.listen(fd, pending_max) < 0) throw new SysError('listen', c.errno(), `@${name}`);
    return 'keep';
  });
}

/** Who listens there, as of when it began to; undefined where nobody does, or too many wait for it. */
export function holderOfName(name: string): Readonly<{ pid: number; uid: number }> | undefined {
  let holder: Readonly<{ pid: number; uid: number }> | undefined;
  withSocket((c, fd) => {
    const sockaddr = sockaddrAbstract(name);
    if (c.connect(fd, sockaddr, sockaddr.length) >= 0) holder = peerCredentials(fd);
    return 'close';
  });
  return holder;
}

const pending_max = 128;

function refusal(c: Libc, syscall: string, name: string, expected: number): 'close' {
  const errno = c.errno();
  if (errno !== expected) throw new SysError(syscall, errno, `@${name}`);
  return 'close';
}

/** The socket, if it is to be kept. */
function withSocket(use: (c: Libc, fd: number) => 'keep' | 'close'): number | undefined {
  const c = libc();
  const fd = c.socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) throw new SysError('socket', c.errno(), 'AF_UNIX');
  let isKept = false;
  try {
    isKept = use(c, fd) === 'keep';
  } finally {
    if (!isKept) closeFd(fd);
  }
  return isKept ? fd : undefined;
}
