import type { Socket } from 'node:net';
import { forward } from './forward.ts';
import type { Pipes } from './pipes.ts';
import { reset, resetsAtEnd } from './sockets.ts';

/** How a connection that was carried on came to its end. */
export type RelayEnd = 'finished' | 'client_resets' | 'origin_resets' | 'idle';

export type RelayLimits = Readonly<{ idle_timeout_s: number; half_closed_timeout_s: number }>;

/** From the client to the origin, and back. */
export type RelayedBytes = Readonly<{ up: number; down: number }>;

/**
 * Passes on what two connected sockets say, until both are done: bytes as fast as the slower side takes them, the end of one
 * direction as the end of that direction, a reset (and whatever else ends a connection that is not its end) as a reset.
 * `done` is called once, when both are closed. The answer tells the bytes that were passed on.
 */
export function relay(
  client: Socket,
  origin: Socket,
  o: Readonly<{ limits: RelayLimits; pipes: Pipes; done: (end: RelayEnd) => void }>,
): () => RelayedBytes {
  const { limits, pipes, done } = o;
  let end: RelayEnd = 'finished';
  let open = 2;
  const follow = (socket: Socket, other: Socket, failure: RelayEnd) => {
    socket.once('error', () => {
      if (end === 'finished') end = failure;
    });
    socket.once('close', (hadError) => {
      if (hadError) reset(other);
      if (--open === 0) done(end);
    });
    // It is closed right behind the later of both, and in order: the kernel goes on with what is not delivered yet.
    const onDone = () => {
      if (socket.readableEnded && socket.writableFinished) resetsAtEnd(socket, false);
    };
    socket.once('end', onEnd).once('end', onDone).once('finish', onDone);
    socket.setNoDelay(true);
    // A connection that is cut short by the end of this process must not look like one that is over, to neither side.
    resetsAtEnd(socket, true);
  };
  const onEnd = () => void client.setTimeout(limits.half_closed_timeout_s * 1_000);
  follow(client, origin, 'client_resets');
  follow(origin, client, 'origin_resets');
  // Every byte passes by the client's socket, in one direction or the other.
  client.setTimeout(limits.idle_timeout_s * 1_000, () => {
    if (end === 'finished') end = 'idle';
    reset(client);
    reset(origin);
  });
  // Before anybody listened.
  if (client.readableEnded) onEnd();
  const [up, down] = [forward(client, origin, pipes), forward(origin, client, pipes)];
  return () => ({ up: client.bytesRead + up(), down: origin.bytesRead + down() });
}
