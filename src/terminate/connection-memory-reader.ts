import { readSync } from 'node:fs';
import { flowProtocol, IPV6 } from '../fish/packet/packet.ts';
import { flowRecord_bytes } from '../fish/log/flow-records.ts';
import { fields, header_bytes, leaseAt, magic, memoryBytes, row_bytes, used_at } from './connection-memory.ts';

/** Connections that have ended, in the format of the flow log. */
export type EndedConnections = Readonly<{
  records: Uint8Array;
  leases: readonly string[];
  /** How many had ever ended when the last of these did: where to read on. */
  next: number;
  /** Those that were overwritten before they were read. */
  missed: number;
  coversSince: number;
}>;

const protocol_at = 16;
const ending_at = 17;
const closedAt_at = 8;
const lease_at = 24;
/** As many rows as are read by one call. */
const rows_max = 4_096;

/**
 * What another process has written (`ConnectionMemory`), read from its file. That process deals with what strangers send, so
 * nothing of it is believed to be in order: records that are none are left out.
 */
export class ConnectionMemoryReader {
  readonly #fd: number;
  readonly #lasting: number;
  readonly #ended: number;

  /** `fd` stays the caller's. Throws Error when the file is nothing of the kind, or not begun yet. */
  constructor(fd: number, fileBytes: number) {
    this.#fd = fd;
    const header = this.#header();
    this.#lasting = header.getUint32(fields.lasting);
    this.#ended = header.getUint32(fields.ended);
    if (
      header.getUint32(0) !== magic ||
      this.#ended === 0 ||
      memoryBytes({ lasting: this.#lasting, ended: this.#ended }) > fileBytes
    )
      throw new Error('it is no log of connections');
  }

  /** The last sign of life (µs since 1970). */
  get aliveAt(): number {
    return this.#header().getFloat64(fields.aliveAt);
  }

  /** Up to `max` of those that have ended since so many had, the earliest first. */
  ended(after: number, max: number): EndedConnections {
    const written = this.#written();
    const first = Math.max(after, written - this.#ended);
    const end = Math.max(first, Math.min(written, first + max));
    const rows = Buffer.concat(this.#runs(first, end).map(([slot, count]) => this.#rows(this.#lasting + slot, count)));
    // Rows that were overwritten while they were read have become others.
    const header = this.#header();
    const sound = Math.max(first, this.#written() - this.#ended);
    const kept = sound > first ? rows.subarray(Math.min(rows.length, (sound - first) * row_bytes)) : rows;
    const coversSince = header.getFloat64(fields.coversSince);
    return {
      ...recordsOf(kept, () => true),
      next: Math.max(after, end),
      missed: Math.max(0, Math.min(sound, end) - after),
      coversSince: Number.isFinite(coversSince) ? coversSince : Infinity,
    };
  }

  /** Those that last, as if all had ended at `closedAt` (µs) by `ending`, an index of `recordedEndings`: of a process that is no more. */
  lasting(closedAt: number, ending: number): Pick<EndedConnections, 'records' | 'leases'> {
    const used = Math.min(this.#header().getUint32(fields.lastingUsed), this.#lasting);
    const written = this.#written();
    // One that ended in that process's last moment may be among both.
    const latest = written > 0 ? this.#rows(this.#lasting + ((written - 1) % this.#ended), 1) : Buffer.alloc(0);
    const pieces: Buffer[] = [];
    for (let row = 0; row < used; row += rows_max) pieces.push(this.#rows(row, Math.min(rows_max, used - row)));
    const rows = Buffer.concat(pieces);
    const view = viewOf(rows);
    const isUsed = (at: number) => rows[at + used_at] === 1 && !isSame(rows.subarray(at, at + row_bytes), latest);
    for (let at = 0; at < rows.length; at += row_bytes) {
      view.setFloat64(at + closedAt_at, Math.max(closedAt, view.getFloat64(at)));
      rows[at + ending_at] = ending;
    }
    return recordsOf(rows, isUsed);
  }

  #written(): number {
    const written = this.#header().getFloat64(fields.written);
    return Number.isSafeInteger(written) && written >= 0 ? written : 0;
  }

  /** The n-th to the m-th, as runs of rows: where each begins, and how many. */
  #runs(first: number, end: number): readonly (readonly [number, number])[] {
    const runs: (readonly [number, number])[] = [];
    for (let n = first; n < end;) {
      const slot = n % this.#ended;
      const count = Math.min(end - n, this.#ended - slot, rows_max);
      runs.push([slot, count]);
      n += count;
    }
    return runs;
  }

  #header(): DataView {
    const header = Buffer.alloc(header_bytes);
    readSync(this.#fd, header, 0, header_bytes, 0);
    return viewOf(header);
  }

  #rows(first: number, count: number): Buffer {
    const rows = Buffer.alloc(count * row_bytes);
    const read = readSync(this.#fd, rows, 0, rows.length, header_bytes + first * row_bytes);
    return rows.subarray(0, Math.floor(read / row_bytes) * row_bytes);
  }
}

/** The rows that are wanted and that are records, with their leases' names beside them. */
function recordsOf(rows: Buffer, isWanted: (at: number) => boolean): Pick<EndedConnections, 'records' | 'leases'> {
  const names = new Map<string, number>();
  const records = Buffer.alloc((rows.length / row_bytes) * flowRecord_bytes);
  const [from, to] = [viewOf(rows), viewOf(records)];
  let bytes = 0;
  for (let at = 0; at < rows.length; at += row_bytes) {
    if (!isWanted(at) || !isRecord(from, at)) continue;
    const name = leaseAt(rows, at);
    if (!names.has(name)) names.set(name, names.size);
    rows.copy(records, bytes, at, at + flowRecord_bytes);
    to.setUint32(bytes + lease_at, names.get(name) ?? 0);
    bytes += flowRecord_bytes;
  }
  return { records: records.subarray(0, bytes), leases: [...names.keys()] };
}

const tcp = flowProtocol('tcp', 4);
const isRecord = (view: DataView, at: number): boolean =>
  [tcp, tcp | IPV6].includes(view.getUint8(at + protocol_at)) &&
  Number.isFinite(view.getFloat64(at)) &&
  Number.isFinite(view.getFloat64(at + closedAt_at));

/** But for how and when it ended. */
const isSame = (row: Buffer, other: Buffer): boolean =>
  other.length > 0 &&
  row.subarray(0, closedAt_at).equals(other.subarray(0, closedAt_at)) &&
  row.subarray(ending_at + 1).equals(other.subarray(ending_at + 1, row_bytes));

const viewOf = (bytes: Buffer): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
