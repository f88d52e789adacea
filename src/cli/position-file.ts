import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { err, ok, type Result } from '../net/result.ts';

/** A revision in a file of its own: a decimal number and a newline. */
export const positionFile = (path: string) => ({
  /** Undefined when there is no such file yet. */
  read(): Result<number | undefined, string> {
    let text: string;
    try {
      text = readFileSync(path, 'utf8').trim();
    } catch (cause) {
      if (cause instanceof Error && 'code' in cause && cause.code === 'ENOENT') return ok(undefined);
      return err(`${path}: cannot be read (${cause instanceof Error ? cause.message : String(cause)})`);
    }
    const revision = Number(text);
    return /^\d{1,16}$/.test(text) && Number.isSafeInteger(revision)
      ? ok(revision)
      : err(`${path}: holds no revision, so it is no position of this command`);
  },

  /** Whole or not at all: a half-written number would be another position. */
  write(revision: number): void {
    writeFileSync(`${path}.new`, `${revision}\n`);
    renameSync(`${path}.new`, path);
  },
});
