import { recordedEndings, type FlowRecord, type RecordedEnding } from '../fish/log/flow-record.ts';
import { flowRecord_bytes, readFlowRecord, writeFlowInWords } from '../fish/log/flow-records.ts';

/**
 * The connections that last and those that have ended, in memory that outlives the process: whoever has the file knows them also
 * when that was killed. Numbers are big-endian.
 *
 *   0 'FCM1', 4 rows of connections that last, 8 rows of those that have ended, 12 rows of the first kind ever used
 *   16 how many have ended, 24 since when all that ended are here (µs since 1970), 32 the last sign of life (µs)
 *   64 the rows: a flow record (fish/flow-records.ts; what lasts closed at 0), 80 whether it is one, 81 how long its lease's name
 *   is, 82 the name. The n-th that ended is in row n modulo the number of those rows.
 */
export type ConnectionSizes = Readonly<{ lasting: number; ended: number }>;

export const header_bytes = 64;
export const row_bytes = 112;
export const used_at = flowRecord_bytes;
export const fields = { lasting: 4, ended: 8, lastingUsed: 12, written: 16, coversSince: 24, aliveAt: 32 } as const;
export const magic = 0x46_43_4d_31;
const nameLength_at = flowRecord_bytes + 1;
const name_at = flowRecord_bytes + 2;
const nameBytes_max = row_bytes - name_at;
const ending_at = 17;
const closedAt_at = 8;

export const memoryBytes = ({ lasting, ended }: ConnectionSizes): number =>
  header_bytes + (lasting + ended) * row_bytes;

/** A connection that begins: a flow of TCP toward one remote. */
export type BeginningConnection = Omit<FlowRecord, 'protocol' | 'closedAt' | 'ending'>;

export const leaseAt = (bytes: Uint8Array, row_at: number): string => {
  const from = row_at + name_at;
  return Buffer.from(bytes.subarray(from, from + Math.min(bytes[row_at + nameLength_at]!, nameBytes_max))).toString();
};

/** What the process writes. What is written first is so that a kill between any two stores leaves whole records only. */
export class ConnectionMemory {
  readonly #sizes: ConnectionSizes;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #free: number[] = [];

  /** `buffer` has `memoryBytes(sizes)` bytes, all zeros. `since`: when recording begins (µs). */
  constructor(buffer: ArrayBuffer, sizes: ConnectionSizes, since: number) {
    this.#sizes = sizes;
    this.#bytes = new Uint8Array(buffer);
    this.#view = new DataView(buffer);
    this.#view.setUint32(fields.lasting, sizes.lasting);
    this.#view.setUint32(fields.ended, sizes.ended);
    this.#view.setFloat64(fields.coversSince, since);
    this.alive(since);
    this.#view.setUint32(0, magic);
  }

  get sizes(): ConnectionSizes {
    return this.#sizes;
  }

  /** Connections that ever ended. */
  get written(): number {
    return this.#view.getFloat64(fields.written);
  }

  get coversSince(): number {
    return this.#view.getFloat64(fields.coversSince);
  }

  alive(at: number): void {
    this.#view.setFloat64(fields.aliveAt, at);
  }

  /** The row of a connection that begins. Throws when all are taken, or the lease has too long a name: there are never so many. */
  begin(connection: BeginningConnection): number {
    const used = this.#view.getUint32(fields.lastingUsed);
    const row = this.#free.pop() ?? used;
    if (row >= this.#sizes.lasting) throw new Error(`more than ${this.#sizes.lasting} connections`);
    const at = header_bytes + row * row_bytes;
    const name = Buffer.from(connection.lease);
    if (name.length > nameBytes_max) throw new Error(`a lease with a name of ${name.length} bytes`);
    writeFlowInWords(this.#view, at, { ...connection, protocol: 'tcp', lease: 0, closedAt: 0, ending: null });
    this.#bytes[at + nameLength_at] = name.length;
    this.#bytes.set(name, at + name_at);
    this.#bytes[at + used_at] = 1;
    if (row === used) this.#view.setUint32(fields.lastingUsed, used + 1);
    return row;
  }

  /** Where the next that ends will be, and who has that row as yet: undefined for nobody. */
  next(): Readonly<{ slot: number; before: FlowRecord | undefined }> {
    const slot = this.written % this.#sizes.ended;
    return { slot, before: this.written < this.#sizes.ended ? undefined : this.ended(slot) };
  }

  /** It has ended; its row is another's from now on. */
  end(row: number, closedAt: number, ending: RecordedEnding): void {
    const { slot, before } = this.next();
    // Clocks are set back now and then: the latest end is not always that of the latest record.
    if (before) this.#view.setFloat64(fields.coversSince, Math.max(this.coversSince, (before.closedAt ?? 0) + 1));
    const from = header_bytes + row * row_bytes;
    const to = this.#endedAt(slot);
    this.#bytes.copyWithin(to, from, from + row_bytes);
    this.#view.setFloat64(to + closedAt_at, closedAt);
    this.#bytes[to + ending_at] = recordedEndings.indexOf(ending);
    this.#view.setFloat64(fields.written, this.written + 1);
    this.#bytes[from + used_at] = 0;
    this.#free.push(row);
    this.alive(closedAt);
  }

  lasting(row: number): FlowRecord {
    return { ...this.#read(header_bytes + row * row_bytes), closedAt: null };
  }

  ended(slot: number): FlowRecord {
    return this.#read(this.#endedAt(slot));
  }

  #endedAt(slot: number): number {
    return header_bytes + (this.#sizes.lasting + slot) * row_bytes;
  }

  #read(at: number): FlowRecord {
    return readFlowRecord(this.#view, at, [leaseAt(this.#bytes, at)]);
  }
}
