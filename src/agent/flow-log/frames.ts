import { crc32 } from 'node:zlib';
import { flowRecord_bytes, spanOf } from '../../fish/log/flow-records.ts';

/**
 * Flow records in a file: frames, one behind the other, each written by one call. Numbers are big-endian.
 *
 *   0 'FFL1', 4 bytes of the head, 8 bytes of the records, 12 CRC-32 of all that follows
 *   16 when the first of the flows opened, 24 when the last one closed, 32 since when the log is complete (µs since 1970)
 *   40 how many blurs the head has; 44 the head (JSON), then the records (see fish/log/flow-records.ts)
 */
export type FrameHead = Readonly<{
  leases: readonly string[];
  blurs: readonly (readonly [number, number])[];
  /** The last word of one who knew of every flow that ended: so many lasted. */
  end?: Readonly<{ live: number }>;
  /** Where the flows are from, and how many of that log had been read with them, where it may be read on from there. */
  read?: Readonly<{ source: string; flows: number }>;
}>;

export type Frame = Readonly<{
  /** Where it begins, and how long it is. */
  at: number;
  bytes: number;
  opened: number;
  closed: number;
  since: number;
  blurs: number;
  records: Buffer;
  head(): FrameHead;
}>;

const magic = 0x46_46_4c_31;
const header_bytes = 44;
const checked_at = 16;

export function frameOf(head: FrameHead, since: number, records: Uint8Array): Buffer {
  const json = Buffer.from(JSON.stringify(head));
  const frame = Buffer.alloc(header_bytes + json.length + records.length);
  const { opened, closed } = spanOf({ records });
  frame.writeUInt32BE(magic, 0);
  frame.writeUInt32BE(json.length, 4);
  frame.writeUInt32BE(records.length, 8);
  frame.writeDoubleBE(opened, 16);
  frame.writeDoubleBE(closed, 24);
  frame.writeDoubleBE(since, 32);
  frame.writeUInt32BE(head.blurs.length, 40);
  json.copy(frame, header_bytes);
  frame.set(records, header_bytes + json.length);
  frame.writeUInt32BE(crc32(frame.subarray(checked_at)), 12);
  return frame;
}

/** The frames at the beginning of a file, up to the first that is not whole: what somebody wrote when the power went. */
export function* framesIn(file: Buffer): Generator<Frame> {
  for (let at = 0; at + header_bytes <= file.length;) {
    if (file.readUInt32BE(at) !== magic) return;
    const [headBytes, recordBytes] = [file.readUInt32BE(at + 4), file.readUInt32BE(at + 8)];
    const records_at = at + header_bytes + headBytes;
    const end = records_at + recordBytes;
    if (end > file.length || recordBytes % flowRecord_bytes !== 0) return;
    if (crc32(file.subarray(at + checked_at, end)) !== file.readUInt32BE(at + 12)) return;
    const head = file.subarray(at + header_bytes, records_at);
    yield {
      at,
      bytes: end - at,
      opened: file.readDoubleBE(at + 16),
      closed: file.readDoubleBE(at + 24),
      since: file.readDoubleBE(at + 32),
      blurs: file.readUInt32BE(at + 40),
      records: file.subarray(records_at, end),
      head: () => JSON.parse(head.toString()) as FrameHead,
    };
    at = end;
  }
}
