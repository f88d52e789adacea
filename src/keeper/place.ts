import { chmodSync, closeSync, constants, fstatSync, openSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { closeFd } from '../sys/descriptors.ts';
import { SysError } from '../sys/errno.ts';
import { EADDRINUSE } from '../sys/constants.ts';
import { tryLock } from '../sys/file-lock.ts';
import { listenSeqpacket } from '../sys/seqpacket.ts';

/** Root's alone; the agent's lock is there, too. */
export const runFolder = '/run/fishery';

/** Keepers belong to a network namespace, as the sockets in them do. */
const netnsInode = (): number => statSync('/proc/self/ns/net').ino;

/** The socket of the keeper with this number in the network namespace of this process. */
export const keeperPath = (number: number, folder = runFolder, netns = netnsInode()): string =>
  join(folder, `keeper-${netns}-${number}.sock`);

/** The numbers of the keepers of this network namespace that there are sockets of, whether or not anybody listens. */
export function keeperNumbers(folder = runFolder, netns = netnsInode()): readonly number[] {
  let names: readonly string[];
  try {
    names = readdirSync(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
  const pattern = new RegExp(`^keeper-${netns}-(\\d{1,4})\\.sock$`);
  return names
    .flatMap((name) => {
      const number = pattern.exec(name)?.[1];
      return number === undefined ? [] : [Number(number)];
    })
    .sort((a, b) => a - b);
}

/** Beside the socket: who has it locked is the keeper. The kernel unlocks it when its process is gone. */
export const lockOf = (path: string): string => `${path}.lock`;

/** Whoever leaves takes the lock file away; who opened it just before starts again with a new one. */
const tries_max = 10;

/**
 * Listens at a path for this user alone, over whatever a dead keeper left there. Throws SysError: EADDRINUSE when a living
 * one has it. `leave` closes the listener and takes the files away.
 */
export function occupy(path: string): Readonly<{ listener: number; leave: () => void }> {
  const lock = lockPlace(path);
  try {
    rmSync(path, { force: true });
    const mask = process.umask(0o177);
    let listener: number;
    try {
      listener = listenSeqpacket(path);
    } finally {
      process.umask(mask);
    }
    chmodSync(path, 0o600);
    const leave = () => {
      rmSync(path, { force: true });
      rmSync(lockOf(path), { force: true });
      closeFd(listener);
      closeSync(lock);
    };
    return { listener, leave };
  } catch (error) {
    closeSync(lock);
    throw error;
  }
}

function lockPlace(path: string): number {
  const file = lockOf(path);
  for (let attempt = 0; attempt < tries_max; attempt++) {
    const fd = openSync(file, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
    if (!tryLock(fd)) {
      closeSync(fd);
      throw new SysError('bind', EADDRINUSE, `a keeper is at work at ${path} already`);
    }
    if (statSync(file, { throwIfNoEntry: false })?.ino === fstatSync(fd).ino) return fd;
    closeSync(fd);
  }
  throw new SysError('bind', EADDRINUSE, `${file} changes all the time`);
}

/** Takes away what a dead keeper left at a path; false when a living one has it. */
export function clearPlace(path: string): boolean {
  try {
    occupy(path).leave();
    return true;
  } catch (error) {
    if (error instanceof SysError && error.errno === EADDRINUSE) return false;
    throw error;
  }
}
