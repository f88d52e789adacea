import type { Socket } from 'node:net';
import { resetOnClose } from '../sys/transparent-listener.ts';

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

/** Node tells it to nobody, and everybody reads it here. */
function descriptorOf(socket: Socket): number | undefined {
  const handle: unknown = Reflect.get(socket, '_handle');
  const fd: unknown = typeof handle === 'object' && handle !== null ? Reflect.get(handle, 'fd') : undefined;
  return typeof fd === 'number' && fd >= 0 ? fd : undefined;
}
