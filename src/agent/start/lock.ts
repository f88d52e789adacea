import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  lstatSync,
  openSync,
  readSync,
  statSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { err, ok, type Result } from '../../net/result.ts';
import { makeDirectory } from '../../ops/directory.ts';
import { tryLock } from '../../sys/file-lock.ts';
import { holdName, lockName } from './lock-name.ts';

/**
 * One agent per network namespace, to which rules and nftables belong: a locked file. Folder and file are root's alone,
 * because whoever can open the file can lock it, and whoever can write to it chooses what the next one reads. The kernel
 * unlocks it when its process is gone, however it ended; a file left behind means nothing. Beside it the lock has a name, for
 * those who do not see the file.
 */
const folder = '/run/fishery';

/** `doubt`: why it keeps fewer others away than it should, a line for people. */
export type Lock = Readonly<{ release: () => void; doubt: string | null }>;

export type LockPlace = Readonly<{ folder: string; file: string; name: string }>;

const placeOfHost = (): LockPlace => ({
  folder,
  file: `agent-${statSync('/proc/self/ns/net').ino}.lock`,
  name: lockName,
});

/** Whoever lets go takes the file away; who opened it just before starts again with a new one. */
const tries_max = 10;
const text_bytes_max = 200;

/** The error says who has it, in one line for people. */
export function takeLock(what: string, place: LockPlace = placeOfHost()): Result<Lock, string> {
  const path = join(place.folder, place.file);
  try {
    makeDirectory(place.folder);
    if (!isOurs(lstatSync(place.folder), 0o022))
      return err(`${place.folder} must be a folder that only root can write to: see who made it, and remove it`);
    for (let attempt = 0; attempt < tries_max; attempt++) {
      const file = tryOnce(path, what);
      if (file !== 'again') return file.ok ? withName(file.value, place.name) : file;
    }
    return err(`${path} changes all the time: is an agent started over and over?`);
  } catch (error) {
    return err(`the lock of this host cannot be taken: ${error instanceof Error ? error.message : String(error)}`);
  }
}

type Release = () => void;

/** The file says more of who has it, so it comes first. */
function withName(releaseFile: Release, name: string): Result<Lock, string> {
  let isLocked = false;
  try {
    const held = holdName(name);
    isLocked = held.ok;
    if (!held.ok) return held;
    const { release, doubt } = held.value;
    return ok({
      doubt,
      release: () => {
        release();
        releaseFile();
      },
    });
  } finally {
    if (!isLocked) releaseFile();
  }
}

function tryOnce(path: string, what: string): Result<Release, string> | 'again' {
  const fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
  let isKept = false;
  try {
    const opened = fstatSync(fd);
    if (!isOurs(opened, 0o077)) return err(`${path} must belong to root alone: see who made it, and remove it`);
    if (!tryLock(fd)) return err(`an agent is at work on this host already (${whoHas(fd)}): stop it first`);
    if (statSync(path, { throwIfNoEntry: false })?.ino !== opened.ino) return 'again';
    ftruncateSync(fd);
    writeSync(fd, `${what}, process ${process.pid}`, 0);
    isKept = true;
  } finally {
    if (!isKept) closeSync(fd);
  }
  let isHeld = true;
  const release = () => {
    if (!isHeld) return;
    isHeld = false;
    // In this order: nobody can have locked this very file meanwhile.
    unlinkSync(path);
    closeSync(fd);
  };
  return ok(release);
}

function whoHas(fd: number): string {
  const bytes = Buffer.alloc(text_bytes_max);
  const text = bytes.toString('utf8', 0, readSync(fd, bytes, 0, text_bytes_max, 0));
  return text === '' ? 'it has just started' : text;
}

/** Root's in production, where the agent is root. */
const isOurs = (found: Readonly<{ uid: number; mode: number }>, forbidden: number): boolean =>
  found.uid === process.geteuid?.() && (found.mode & forbidden) === 0;
