import {
  closeSync,
  fdatasyncSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
} from 'node:fs';
import { open, readFile, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { makeDirectory } from '../../ops/directory.ts';
import { framesIn, type Frame } from './frames.ts';

/** A larger one is not begun: one is read whole to answer a question. */
const segmentBytes_max = 16_777_216;
const segmentBytes_min = 65_536;

type Segment = {
  readonly number: number;
  readonly path: string;
  bytes: number;
  /** Of all its flows: when the first opened, and the last closed (µs); Infinity and -Infinity if it has none. */
  opened: number;
  closed: number;
};

const nameOf = (number: number): string => `flows-${String(number).padStart(10, '0')}.log`;
const namePattern = /^flows-(\d{10})\.log$/;

/**
 * The files of the flow log: frames are appended to the last of them, and the oldest goes when there are too many bytes, or
 * when all its flows are too old. What is not whole at the end of a file is cut off when it is found.
 */
export class Segments {
  readonly #folder: string;
  readonly #bytesMax: number;
  readonly #segments: Segment[] = [];
  #handle: FileHandle | null = null;
  #isDirty = false;

  private constructor(folder: string, bytesMax: number) {
    this.#folder = folder;
    this.#bytesMax = bytesMax;
  }

  /** Reads all files, a frame at a time. Throws what the system says. */
  static open(folder: string, bytesMax: number, onFrame: (frame: Frame) => void): Segments {
    makeDirectory(folder);
    const segments = new Segments(folder, bytesMax);
    for (const name of readdirSync(folder).sort()) {
      const number = namePattern.exec(name)?.[1];
      if (number !== undefined) segments.#find(Number(number), onFrame);
    }
    return segments;
  }

  get bytes(): number {
    return this.#segments.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  get count(): number {
    return this.#segments.length;
  }

  #find(number: number, onFrame: (frame: Frame) => void): void {
    const segment = this.#begin(number);
    const file = readFileSync(segment.path);
    for (const frame of framesIn(file)) {
      include(segment, frame);
      onFrame(frame);
    }
    if (segment.bytes < file.length) truncate(segment.path, segment.bytes);
  }

  #begin(number: number): Segment {
    const path = join(this.#folder, nameOf(number));
    const segment = { number, path, bytes: 0, opened: Infinity, closed: -Infinity };
    this.#segments.push(segment);
    return segment;
  }

  /** Takes the last so many bytes off again, for good. Throws what the system says. */
  cutTail(bytes: number): void {
    const last = this.#segments.at(-1);
    if (!last) return;
    truncate(last.path, last.bytes - bytes);
    last.bytes -= bytes;
  }

  /** Throws what the system says, and then nothing was written. `span_us_max`: how far apart the flows of one file may be. */
  async append(frame: Buffer, span: Readonly<{ opened: number; closed: number }>, span_us_max: number): Promise<void> {
    const last = this.#segments.at(-1);
    const size_max = Math.min(segmentBytes_max, Math.max(segmentBytes_min, this.#bytesMax / 8));
    const isFull =
      last && last.bytes > 0 && (last.bytes + frame.length > size_max || span.closed - last.opened > span_us_max);
    const segment = last && !isFull ? last : await this.#next((last?.number ?? 0) + 1);
    const handle = (this.#handle ??= await open(segment.path, 'a', 0o600));
    try {
      const { bytesWritten } = await handle.write(frame);
      if (bytesWritten < frame.length) throw new Error(`the disk took ${bytesWritten} of ${frame.length} bytes`);
    } catch (error) {
      await this.#mend(segment, handle);
      throw error;
    }
    include(segment, { bytes: frame.length, ...span });
    this.#isDirty = true;
  }

  async #next(number: number): Promise<Segment> {
    await this.close();
    const path = join(this.#folder, nameOf(number));
    // Before it is in the list: what cannot be made is not there.
    this.#handle = await open(path, 'ax', 0o600);
    syncFolder(this.#folder);
    return this.#begin(number);
  }

  /** Half a frame at the end would hide those behind it. */
  async #mend(segment: Segment, handle: FileHandle): Promise<void> {
    try {
      await handle.truncate(segment.bytes);
    } catch {
      // Nothing more is written to this file then.
      await this.#next(segment.number + 1).catch(() => {});
    }
  }

  /** On the disk, whatever happens to the power. */
  async sync(): Promise<void> {
    if (!this.#isDirty) return;
    await this.#handle?.datasync();
    this.#isDirty = false;
  }

  /**
   * Removes files whose flows closed before that instant (µs), and the oldest as long as there are too many bytes. When the last flow
   * of those removed for their bytes closed; -Infinity: none was.
   */
  removeOld(closedSince: number): number {
    let forgotten = -Infinity;
    for (let oldest = this.#segments[0]; oldest && this.#segments.length > 1; oldest = this.#segments[0]) {
      const isOld = oldest.closed < closedSince;
      if (!isOld && this.bytes <= this.#bytesMax) break;
      rmSync(oldest.path, { force: true });
      this.#segments.shift();
      if (!isOld) forgotten = Math.max(forgotten, oldest.closed);
    }
    return forgotten;
  }

  /** The frames with flows that may have lasted at that instant, the latest first. */
  async *framesAt(at: number, marginUs: number): AsyncGenerator<Frame> {
    const lasted = ({ opened, closed }: Readonly<{ opened: number; closed: number }>) =>
      opened - marginUs <= at && at <= closed + marginUs;
    for (const segment of this.#segments.filter(lasted).toReversed()) {
      const file = await readFile(segment.path).catch((error: unknown) => {
        // Removed meanwhile, as too old.
        if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return Buffer.alloc(0);
        throw error;
      });
      yield* [...framesIn(file)].filter(lasted).reverse();
    }
  }

  async close(): Promise<void> {
    const handle = this.#handle;
    if (!handle) return;
    await this.sync();
    this.#handle = null;
    await handle.close();
  }
}

function include(segment: Segment, frame: Pick<Frame, 'bytes' | 'opened' | 'closed'>): void {
  segment.bytes += frame.bytes;
  segment.opened = Math.min(segment.opened, frame.opened);
  segment.closed = Math.max(segment.closed, frame.closed);
}

function truncate(path: string, bytes: number): void {
  const fd = openSync(path, 'r+');
  try {
    ftruncateSync(fd, bytes);
    fdatasyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

function syncFolder(folder: string): void {
  const fd = openSync(folder, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
