import { closeSync, fsyncSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { makeDirectory } from './directory.ts';

/**
 * Writes a file of this user's own (mode 0600) as a whole: into a second one beside it, which is then renamed, so that whoever reads
 * finds one or the other. Makes the folder where it is missing. `isDurable`: when it returns, the file outlives the machine's
 * sudden end; else the process's. Throws what the system says, and then the file is as it was.
 */
export function replaceFile(folder: string, name: string, text: string, isDurable: boolean): void {
  makeDirectory(folder);
  const temporary = join(folder, `${name}.new`);
  rmSync(temporary, { force: true });
  const fd = openSync(temporary, 'wx', 0o600);
  try {
    writeWhole(fd, Buffer.from(text));
    if (isDurable) fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  renameSync(temporary, join(folder, name));
  if (isDurable) syncFolder(folder);
}

/** One write may take less than all of it: of a large one, or on a disk that is nearly full. */
function writeWhole(fd: number, bytes: Buffer): void {
  for (let at = 0; at < bytes.length;) at += writeSync(fd, bytes, at);
}

function syncFolder(folder: string): void {
  const fd = openSync(folder, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
