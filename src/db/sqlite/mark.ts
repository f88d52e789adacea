import { closeSync, constants, fsyncSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { EpochCause } from '../../leases/model.ts';
import type { Loss } from '../../leases/view.ts';

/** What the file beside the database says: in which epoch it was, and how far it had come. */
export type Mark = Readonly<{
  epoch: string;
  /** No higher revision was answered; on disk before any above the former one was. */
  reserved: number;
  /** This one was committed. Written with each commit and not synced: it survives the process, and not the host. */
  reached: number;
}>;

/** A power cut can take away what was not synced; within this many revisions the mark then says too little. */
const reserved_ahead_revisions = 100_000;
/** Less than a sector: it is written whole or not at all. */
const line_bytes = 256;

const fileIn = (directory: string): string => join(directory, 'fishery.mark');

/** The mark in a directory; undefined when there is none, `damaged` when it is something else. */
export function readMark(directory: string): Mark | 'damaged' | undefined {
  let text: string;
  try {
    text = readFileSync(fileIn(directory), 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw error;
  }
  const [, epoch, reserved, reached] = /^fishery-mark 1 (\S+) (\d{1,16}) (\d{1,16}) *\n$/.exec(text) ?? [];
  if (epoch === undefined) return 'damaged';
  return { epoch, reserved: Number(reserved), reached: Number(reached) };
}

export const removeMark = (directory: string): void => rmSync(fileIn(directory), { force: true });

/** What the database says of itself: the epoch that it is in, those that it was in before, and the end of its log. */
export type Standing = Readonly<{ epoch: string; former: ReadonlySet<string>; revision: number }>;

/** What the mark has of more than the database; undefined when nothing is missing. `revision`: given out, as far as known. */
export function lossShownBy(
  mark: Mark | 'damaged' | undefined,
  { epoch, former, revision }: Standing,
): Omit<Loss, 'newId'> | undefined {
  const shows = (cause: EpochCause, detail: string, known = revision) => ({ cause, detail, revision: known });
  // What nothing was ever written to has nothing to lose.
  if (mark === undefined)
    return revision === 0
      ? undefined
      : shows('other_mark', 'there is no fishery.mark beside the database: it was restored or copied');
  if (mark === 'damaged') return shows('other_mark', 'fishery.mark beside the database is damaged');
  const known = Math.max(mark.reached, mark.reserved - reserved_ahead_revisions);
  // A new epoch is in the database before it is in the mark.
  if (former.has(mark.epoch)) return undefined;
  if (mark.epoch !== epoch)
    return mark.reached === 0
      ? lossShownBy(undefined, { epoch, former, revision })
      : shows('other_mark', `fishery.mark is of epoch ${mark.epoch}, which the database was never in`, mark.reached);
  if (revision >= known) return undefined;
  return shows('older_than_mark', `the database ends at revision ${revision}, and ${known} had been given out`, known);
}

/**
 * The high-water mark of a SQLite database, in a file of its own, which a restored database does not bring along: it shows
 * that the database is older than what was answered. Kept open while a server runs.
 */
export class HighWaterMark {
  readonly #descriptor: number;
  #mark: Mark = { epoch: '', reserved: 0, reached: 0 };

  /**
   * `from`: where the database stands. Without it what the file says stays as it is until the first commit: it shows that
   * something was lost, and whoever opens the database next has to find that out again.
   */
  constructor(directory: string, from: Pick<Mark, 'epoch' | 'reached'> | undefined) {
    this.#descriptor = openSync(fileIn(directory), constants.O_RDWR | constants.O_CREAT, 0o600);
    if (from) {
      this.#mark = { ...from, reserved: 0 };
      this.secure(from.epoch, from.reached, from.reached);
    }
    const folder = openSync(directory, 'r');
    try {
      fsyncSync(folder);
    } finally {
      closeSync(folder);
    }
  }

  /** To be called before a commit that takes the log from one revision to another: makes sure that the mark knows. */
  secure(epoch: string, from: number, to: number): void {
    if (epoch === this.#mark.epoch && 0 < this.#mark.reserved && to <= this.#mark.reserved) return;
    const next = { epoch, reserved: Math.max(from + reserved_ahead_revisions, to), reached: this.#mark.reached };
    this.#write(next);
    fsyncSync(this.#descriptor);
    this.#mark = next;
  }

  /** To be called when it is committed, and before it is answered. */
  reach(revision: number): void {
    this.#mark = { ...this.#mark, reached: revision };
    try {
      this.#write(this.#mark);
    } catch {
      // The commit stands; the next one writes this too.
    }
  }

  close(): void {
    try {
      fsyncSync(this.#descriptor);
    } finally {
      closeSync(this.#descriptor);
    }
  }

  #write({ epoch, reserved, reached }: Mark): void {
    const line = `fishery-mark 1 ${epoch} ${reserved} ${reached}`;
    writeSync(this.#descriptor, `${line.padEnd(line_bytes - 1)}\n`, 0, 'utf8');
  }
}
