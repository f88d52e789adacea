import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';

/** Who runs the demo and where it keeps its files; in a folder that only root writes to. */
const lockFile = '/run/fishery-demo.lock';

export type Lock =
  | Readonly<{
      isMine: true;
      /** Of a run that died; undefined when the last one ended as it should. */ leftFolder: string | undefined;
    }>
  | Readonly<{ isMine: false; pid: number }>;

/** Takes the lock, also from a process that is dead. */
export function lock(folder: string): Lock {
  // Written aside and linked into place, so that nobody ever reads a lock that is only half written.
  const draft = `${lockFile}.${process.pid}`;
  writeFileSync(draft, `${process.pid} ${startTimeOf(process.pid)} ${folder}`);
  try {
    for (let leftFolder: string | undefined; ;) {
      if (linked(draft)) return { isMine: true, leftFolder };
      const found = readText(lockFile);
      const [pid = '', startTime = '', left = ''] = found.split(' ');
      // The start time tells the process from a later one that got its number.
      if (startTime !== '' && startTimeOf(Number(pid)) === Number(startTime))
        return { isMine: false, pid: Number(pid) };
      if (left !== '') leftFolder = left;
      putAside(found, `${draft}.stale`);
    }
  } finally {
    rmSync(draft, { force: true });
  }
}

function linked(draft: string): boolean {
  try {
    linkSync(draft, lockFile);
    return true;
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && cause.code === 'EEXIST') return false;
    throw cause;
  }
}

/** Removes the lock that was found stale, and no other: somebody may have put a fresh one there meanwhile. */
function putAside(found: string, place: string): void {
  try {
    renameSync(lockFile, place);
  } catch {
    return; // Another one was quicker.
  }
  if (readText(place) !== found) linked(place);
  rmSync(place, { force: true });
}

export const unlock = (): void => rmSync(lockFile, { force: true });

/** In clock ticks since boot: field 22 of /proc/PID/stat, counted from behind the name, which may have blanks. 0: no such process. */
function startTimeOf(pid: number): number {
  const stat = readText(`/proc/${pid}/stat`);
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? 0);
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
