import type { Socket } from 'node:net';
import { resetOnClose } from '../sys/transparent-listener.ts';
import { pendingErrors } from '../sys/wait.ts';

/** Closes a socket so that its peer is reset, whatever else is still to be sent: nothing where it is closed already. */
export function reset(socket: Socket): void {
  // Not resetAndDestroy(): that fails, and closes nothing, while a FIN waits for its turn.
  resetsAtEnd(socket, true);
  socket.destroy();
}

/** Whether the peer is reset when this socket is closed, also when it is by the end of this process. */
export function resetsAtEnd(socket: Socket, resets: boolean): void {
  const fd = descriptorOf(socket);
  if (fd !== undefined) resetOnClose(fd, resets);
}

/**
 * Calls `left` once when the peer of a socket that nobody reads from yet has gone: by a reset, or by its end without having said a
 * word. One that ends after some words may wait for nothing else but that they arrive. What it says is read as far as the
 * socket's own buffer goes; behind more than that only a reset can be seen (`destroyLost`). The answer stops it, and leaves the socket as it is.
 */
export function watchLeaving(socket: Socket, left: () => void): () => void {
  socket.once('close', left).once('end', left);
  // Paused as it is: read into its buffer, and told to nobody.
  socket.read(0);
  if (socket.destroyed) left();
  return () => void socket.off('close', left).off('end', left);
}

/**
 * Destroys those that nobody reads from at the moment and whose peer has reset them, or is lost: the event loop asks the kernel
 * nothing about a socket that is neither read nor written, and would not hear of it before somebody does.
 */
export function destroyLost(sockets: Iterable<Socket>): void {
  const unread: Socket[] = [];
  const fds: number[] = [];
  for (const socket of sockets) {
    if (socket.readableFlowing === true && !socket.readableEnded) continue;
    const fd = descriptorOf(socket);
    if (fd === undefined) continue;
    unread.push(socket);
    fds.push(fd);
  }
  for (const index of pendingErrors(fds)) unread[index]?.destroy(new Error('its peer has reset it, or is lost'));
}

/** Node tells it to nobody, and everybody reads it here; undefined for one that is closed. */
export function descriptorOf(socket: Socket): number | undefined {
  const handle: unknown = Reflect.get(socket, '_handle');
  const fd: unknown = typeof handle === 'object' && handle !== null ? Reflect.get(handle, 'fd') : undefined;
  return typeof fd === 'number' && fd >= 0 ? fd : undefined;
}
