import type { Socket } from 'node:net';
import { EINVAL, ENOSYS, EPERM } from '../sys/constants.ts';
import { errnoName } from '../sys/errno.ts';
import type { SplicePipe } from '../sys/splice-pipe.ts';
import type { Pipes } from './pipes.ts';
import { descriptorOf } from './sockets.ts';

/** Whoever has sent this much has more, as a rule. */
const much_bytes = 32 * 1_024;
/** What a filter of system calls answers, and a kernel that cannot do it for these sockets. */
const isForbidden = (answer: number): boolean => answer === -EPERM || answer === -ENOSYS || answer === -EINVAL;
/** Then it is others' turn. */
const pulls_max = 4;

/**
 * One direction of a relay: passes on what `from` says as fast as `to` takes it, and ends `to` where `from` ends. A socket is read
 * into memory, which the event loop does; what has arrived beyond that goes through a pipe of the kernel, uncopied, as long as
 * one is free. The answer tells how many bytes went that way.
 */
export function forward(from: Socket, to: Socket, pipes: Pipes): () => number {
  /** Holds what `to` has not taken yet, whenever this is another's turn. */
  let pipe: SplicePipe | undefined;
  let bytes = 0;
  let isWaiting = false;
  let hasEnded = false;

  /** False: the kernel has not taken all of it, and what comes next has to wait. */
  const write = (chunk: Uint8Array): boolean => {
    const mayGoOn = to.write(chunk);
    if (to.writableLength === 0) return true;
    if (!mayGoOn && !isWaiting) {
      isWaiting = true;
      from.pause();
      to.once('drain', onDrain);
    }
    return false;
  };
  const onDrain = () => {
    isWaiting = false;
    if (pipe) flush(pipe);
    goOn();
  };
  const goOn = () => {
    if (!isWaiting && !from.destroyed) from.resume();
  };
  /** Empties the pipe. False: the kernel has not taken all of it, and what comes next has to wait. */
  const flush = (full: SplicePipe): boolean => {
    const fd = descriptorOf(to);
    let isTaken = fd !== undefined;
    while (fd !== undefined && isTaken && full.held > 0) {
      const given = full.push(fd);
      if (given < 0) {
        to.destroy(new Error(`it takes no more: ${errnoName(given)}`));
        isTaken = false;
      }
      // The event loop tells when there is room again for the rest: it waits for that with a piece of it.
      if (given === 0) isTaken = write(full.read(to.writableHighWaterMark));
    }
    if (isWaiting) return false;
    release();
    if (hasEnded) to.end();
    return isTaken;
  };
  const release = () => {
    if (pipe) pipes.give(pipe);
    pipe = undefined;
  };
  /** Nothing is on its way in memory, in neither socket. */
  const passOn = (): void => {
    for (let i = 0; i < pulls_max; i++) {
      const fd = descriptorOf(from);
      if (fd === undefined) return;
      pipe ??= pipes.take();
      if (!pipe) return;
      const taken = pipe.pull(fd);
      // Nothing was taken then: it goes on without.
      if (isForbidden(taken)) pipes.forsake();
      else if (taken < 0) from.destroy(new Error(`it says no more: ${errnoName(taken)}`));
      if (taken <= 0) break;
      bytes += taken;
      if (!flush(pipe)) return;
      if (taken < much_bytes) break;
    }
    release();
  };

  from.on('data', (chunk: Uint8Array) => {
    if (write(chunk) && chunk.length >= much_bytes && from.readableLength === 0) passOn();
  });
  const onEnd = () => {
    hasEnded = true;
    if (!pipe) to.end();
  };
  if (from.readableEnded) onEnd();
  else from.once('end', onEnd);
  to.once('close', release);
  goOn();
  return () => bytes;
}
