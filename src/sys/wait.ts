import { EAGAIN, EBADF, EINTR } from './constants.ts';
import { SysError } from './errno.ts';
import { libc } from './libc.ts';

const EFD_CLOEXEC = 0x80000;
const EFD_NONBLOCK = 0x800;
const POLLIN = 0x001;
const POLLERR = 0x008;
const POLLHUP = 0x010;
const POLLNVAL = 0x020;

/** The answer is one bit per descriptor in a number that must stay positive. */
export const waitDescriptors_max = 31;

const pollBytes = new ArrayBuffer(waitDescriptors_max * 8);
const pollFds = new Uint8Array(pollBytes);
// struct pollfd is { int fd; short events; short revents }, seen here as 32-bit and as 16-bit words.
const words = new Int32Array(pollBytes);
const halfWords = new Int16Array(pollBytes);
const one = new Uint8Array(new ArrayBuffer(8));
one[0] = 1;
const taken = new Uint8Array(new ArrayBuffer(8));

/** A counter to wake a thread that sits in `waitReadable`: its number may be handed to another thread. Throws SysError. */
export function openEventFd(): number {
  const c = libc();
  const fd = c.eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fd < 0) throw new SysError('eventfd', c.errno());
  return fd;
}

/** Makes the descriptor readable until it is drained; many notifications are one wake-up. Throws SysError. */
export function notify(eventFd: number): void {
  const c = libc();
  // EAGAIN: the counter is full, so the wake-up it stands for has not happened yet, which is all that matters.
  if (c.write(eventFd, one, 8) < 0 && c.errno() !== EAGAIN) throw new SysError('write', c.errno(), 'eventfd');
}

/** Takes back all notifications; none is fine. Throws SysError. */
export function drainEventFd(fd: number): void {
  const c = libc();
  if (c.read(fd, taken, 8) < 0 && c.errno() !== EAGAIN) throw new SysError('read', c.errno(), 'eventfd');
}

/**
 * Waits until one of the first `count` descriptors can be read, hung up or failed, at most `timeoutMs` (-1: without
 * end; 0: just look). Bit i of the answer is fds[i]; 0 when the time ran out or a signal came; -errno otherwise, -EBADF
 * when one of them is not open. A negative entry is skipped.
 *
 * The thread is gone to JavaScript meanwhile: no timers, no messages, and worker.terminate() waits as well. So it is
 * for a worker, with an eventfd among the descriptors to call it back.
 */
export function waitReadable(fds: Int32Array, count: number, timeoutMs: number): number {
  if (count > waitDescriptors_max || count > fds.length)
    throw new RangeError(`${count} descriptors; at most ${Math.min(waitDescriptors_max, fds.length)}`);
  for (let i = 0; i < count; i++) {
    words[2 * i] = fds[i]!;
    words[2 * i + 1] = POLLIN; // and revents = 0
  }
  const c = libc();
  const ready = c.poll(pollFds, count, timeoutMs);
  if (ready < 0) return c.errno() === EINTR ? 0 : -c.errno();
  let bits = 0;
  for (let i = 0; ready > 0 && i < count; i++) {
    const events = halfWords[4 * i + 3]!;
    if (events & POLLNVAL) return -EBADF;
    if (events & (POLLIN | POLLERR | POLLHUP)) bits |= 1 << i;
  }
  return bits;
}

const looked_max = 1_024;
const lookedBytes = new ArrayBuffer(looked_max * 8);
const lookedFds = new Uint8Array(lookedBytes);
const lookedWords = new Int32Array(lookedBytes);
const lookedHalfWords = new Int16Array(lookedBytes);

/**
 * Indexes of the sockets on which an error waits for whoever reads or writes next, so a TCP connection that was reset or
 * timed out; that it has ended in order is none. Takes nothing from them, and returns at once. Throws SysError.
 */
export function pendingErrors(fds: readonly number[]): readonly number[] {
  const c = libc();
  const found: number[] = [];
  for (let first = 0; first < fds.length; first += looked_max) {
    const count = Math.min(looked_max, fds.length - first);
    // Asked for nothing, the kernel tells of errors, and of nothing else that matters here.
    for (let i = 0; i < count; i++) {
      lookedWords[2 * i] = fds[first + i]!;
      lookedWords[2 * i + 1] = 0;
    }
    const ready = c.poll(lookedFds, count, 0);
    if (ready < 0 && c.errno() !== EINTR) throw new SysError('poll', c.errno(), `${count} sockets`);
    for (let i = 0; ready > 0 && i < count; i++) if (lookedHalfWords[4 * i + 3]! & POLLERR) found.push(first + i);
  }
  return found;
}
