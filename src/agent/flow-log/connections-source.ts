import { closeSync, constants, fstatSync, openSync } from 'node:fs';
import { basename } from 'node:path';
import type { FlowLogCursor } from '../../fish/log/flow-log.ts';
import { recordedEndings } from '../../fish/log/flow-record.ts';
import { flowRecord_bytes } from '../../fish/log/flow-records.ts';
import { tryLock } from '../../sys/file-lock.ts';
import { ConnectionMemoryReader } from '../../terminate/connection-memory-reader.ts';
import { endedFlows_max, type EndedBatch } from '../fish/operations.ts';
import type { FlowSource } from './flow-log-keeper.ts';

const cut = recordedEndings.indexOf('cut');

/** The connections of a terminator, read from the file that it has them in, for as long as that is open. */
export class ConnectionsSource implements FlowSource {
  /** Of this terminator alone. */
  readonly name: string;
  readonly #fd: number;
  readonly #reader: ConnectionMemoryReader;
  #asked: FlowLogCursor;
  #lastWords: (() => EndedBatch[]) | undefined;
  #isClosed = false;

  /** `from`: where to read on, by its name. Throws when it cannot be read, or is no such file. */
  constructor(path: string, from: (source: string) => FlowLogCursor) {
    this.name = basename(path);
    this.#fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
    try {
      this.#reader = new ConnectionMemoryReader(this.#fd, fstatSync(this.#fd).size);
    } catch (error) {
      closeSync(this.#fd);
      throw error;
    }
    this.#asked = from(this.name);
  }

  /** Why this file is none that can be read; null if it is. */
  static problemOf(path: string): string | null {
    try {
      new ConnectionsSource(path, () => ({ flows: 0, blurs: 0 })).close();
      return null;
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    }
  }

  /** Whether its process is there. */
  get isAtWork(): boolean {
    // Once it is had, it is had until the file is closed: nobody else wants it then.
    return !tryLock(this.#fd);
  }

  /** When its process was seen alive last (µs since 1970). */
  get aliveAt(): number {
    return this.#reader.aliveAt;
  }

  endedFlows(after: FlowLogCursor): Promise<EndedBatch> {
    if (this.#isClosed) return Promise.reject(new Error(`${this.name} is closed`));
    this.#asked = after;
    return Promise.resolve(this.#read(after));
  }

  /**
   * Its process is no more: what lasted has ended at `closedAt`, which is not certain between the two instants of `blur` (all µs
   * since 1970).
   */
  finish(closedAt: number, blur: readonly [number, number] | null): void {
    this.#lastWords = () => {
      const batches = [this.#read(this.#asked)];
      for (let last = batches.at(-1); last && last.next.flows > this.#asked.flows; last = batches.at(-1)) {
        this.#asked = last.next;
        batches.push(this.#read(last.next));
      }
      const { records, leases } = this.#reader.lasting(closedAt, cut);
      const flows = this.#asked.flows + records.length / flowRecord_bytes;
      const lasting = { records, leases, blurs: blur === null ? [] : [blur] };
      return [...batches, { ...this.#batch({ flows, blurs: 0 }), ...lasting }, this.#batch({ flows, blurs: 0 })];
    };
  }

  get lastWords(): readonly EndedBatch[] {
    return this.#lastWords?.() ?? [];
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    closeSync(this.#fd);
  }

  #read(after: FlowLogCursor): EndedBatch {
    const { next, ...ended } = this.#reader.ended(after.flows, endedFlows_max);
    return { ...this.#batch({ flows: next, blurs: 0 }), ...ended };
  }

  /** Without a record. */
  #batch(next: FlowLogCursor): EndedBatch {
    const nothing = { records: new Uint8Array(0), leases: [], blurs: [], missed: 0, coversSince: 0 };
    // It begins with no connection, and with a file of its own.
    return { ...nothing, next, live: 0, tookOver: { live: 0, lost: 0 }, source: this.name };
  }
}
