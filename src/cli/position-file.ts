import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { err, ok, type Result } from '../net/result.ts';

export type PositionFile = Readonly<{
  read: () => Result<number | undefined, string>;
  write: (revision: number) => void;
}>;

/** A revision in a file of its own: a decimal number and a newline. */
export const positionFile = (path: string): PositionFile => ({
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

/**
 * Keeps a position up to date: written as soon as there is nothing more at hand, so that a thousand revisions that come at
 * once are one write, and at the end. A write that fails is thrown at the next call.
 */
export function positionKeeper(file: Pick<PositionFile, 'write'>) {
  let kept: number | undefined;
  let newest: number | undefined;
  let isDue = false;
  let failure: { cause: unknown } | undefined;
  const write = () => {
    if (newest === undefined || newest === kept) return;
    file.write(newest);
    kept = newest;
  };
  return {
    reached(revision: number): void {
      if (failure) throw failure.cause;
      newest = revision;
      if (isDue) return;
      isDue = true;
      setImmediate(() => {
        isDue = false;
        try {
          write();
        } catch (cause) {
          failure = { cause };
        }
      });
    },
    end: write,
  };
}
