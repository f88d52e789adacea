import { closeSync, constants, openSync, readdirSync, rmSync, writeSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { tryLock } from '../sys/file-lock.ts';
import { mapShared, viewOfMapping, type Mapping } from '../sys/shared-memory.ts';
import { ConnectionMemory, memoryBytes, type ConnectionSizes } from './connection-memory.ts';

const chunk_bytes = 1_048_576;
const stemOf = (socket: string): string => `${basename(socket).replace(/\.sock$/, '')}-`;

/** Beside the socket of a terminator: where this process has its connections. */
export const logPathOf = (socket: string): string =>
  join(dirname(socket), `${stemOf(socket)}${process.pid}-${Date.now()}.flows`);

/** Everything of that kind beside a socket, the earliest first: of the terminator that is at work, and of those that were. */
export function logsBeside(socket: string): readonly string[] {
  const [stem, folder] = [stemOf(socket), dirname(socket)];
  const begunAt = (name: string): number => Number(/-(\d+)\.flows$/.exec(name)?.[1]);
  return readdirSync(folder)
    .filter((name) => name.startsWith(stem) && /^\d+-\d+\.flows$/.test(name.slice(stem.length)))
    .toSorted((a, b) => begunAt(a) - begunAt(b))
    .map((name) => join(folder, name));
}

/**
 * A file for this user alone, mapped, and locked for as long as it is mapped, which is as long as this process is there: it
 * outlives that, and takes all its space now. Throws Error with a line for people.
 */
export function openConnectionMemory(
  path: string,
  sizes: ConnectionSizes,
): Readonly<{ memory: ConnectionMemory; mapping: Mapping }> {
  let fd: number | undefined;
  try {
    fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, 0o600);
    if (!tryLock(fd)) throw new Error('somebody else has it');
    // What is a hole in the file now may find no room later: who writes there then is killed.
    const zeros = new Uint8Array(chunk_bytes);
    for (let left = memoryBytes(sizes); left > 0;) left -= writeSync(fd, zeros, 0, Math.min(left, chunk_bytes));
    const mapping = mapShared(fd);
    return { memory: new ConnectionMemory(viewOfMapping(mapping), sizes, Date.now() * 1_000), mapping };
  } catch (error) {
    if (fd !== undefined) rmSync(path, { force: true });
    throw new Error(`the log of connections ${path}: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  } finally {
    // The mapping keeps the file open, and locked.
    if (fd !== undefined) closeSync(fd);
  }
}
