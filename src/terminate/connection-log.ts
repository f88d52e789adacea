import type { FlowRecord, RecordedEnding } from '../fish/log/flow-record.ts';
import type { BeginningConnection, ConnectionMemory } from './connection-memory.ts';

/** How far an instant of the log may be from the host's clock, which is read in milliseconds. */
export const margin_us = 2_000;

/** Who had this port then? null: toward any remote. */
export type ConnectionQuery = Readonly<{
  address: string;
  port: number;
  remote: string | null;
  remotePort: number | null;
  /** Microseconds since 1970. */
  at: number;
}>;

export type ConnectionAnswer = Readonly<{
  matches: readonly FlowRecord[];
  /** More matched than were asked for. */
  truncated: boolean;
  /** Everything is known that ended between these two instants, or lasted then. */
  coversSince: number;
  coversThrough: number;
  marginUs: number;
}>;

/**
 * The connections that last, and the latest that have ended, so many of them. An attempt that fails is in it as well: its
 * packets were sent from that port. They are in memory that others can read; here is what finds them.
 */
export class ConnectionLog {
  readonly #memory: ConnectionMemory;
  readonly #marginUs: number;
  /** By address and port: rows of those that last, and, below 0, of those that have ended. */
  readonly #byPort = new Map<string, Set<number>>();
  #open = 0;

  /** `marginUs`: how far instants may be from those of the host's clock. */
  constructor(memory: ConnectionMemory, marginUs: number) {
    this.#memory = memory;
    this.#marginUs = marginUs;
  }

  get entries(): Readonly<{ open: number; ended: number }> {
    return { open: this.#open, ended: Math.min(this.#memory.written, this.#memory.sizes.ended) };
  }

  /** Records that a connection begins; call what it returns once, when it has ended (µs). */
  open(connection: BeginningConnection): (closedAt: number, ending: RecordedEnding) => void {
    const memory = this.#memory;
    const row = memory.begin(connection);
    const key = keyOf(connection);
    this.#add(key, row);
    this.#open++;
    let hasEnded = false;
    return (closedAt, ending) => {
      if (hasEnded) return;
      hasEnded = true;
      this.#open--;
      const { slot, before } = memory.next();
      if (before) this.#remove(keyOf(before), endedRow(slot));
      memory.end(row, closedAt, ending);
      this.#remove(key, row);
      this.#add(key, endedRow(slot));
    };
  }

  search(query: ConnectionQuery, now: number, most: number): ConnectionAnswer {
    const rows = [...(this.#byPort.get(keyOf(query)) ?? [])];
    const found = rows
      .map((row) => (row >= 0 ? this.#memory.lasting(row) : this.#memory.ended(endedRow(row))))
      .filter(
        (entry) =>
          (query.remote === null || query.remote === entry.remote) &&
          (query.remotePort === null || query.remotePort === entry.remotePort) &&
          entry.openedAt - this.#marginUs <= query.at &&
          (entry.closedAt === null || query.at <= entry.closedAt + this.#marginUs),
      );
    return {
      matches: found.slice(0, most),
      truncated: found.length > most,
      coversSince: this.#memory.coversSince,
      coversThrough: now,
      marginUs: this.#marginUs,
    };
  }

  #add(key: string, row: number): void {
    const there = this.#byPort.get(key);
    if (there) there.add(row);
    else this.#byPort.set(key, new Set([row]));
  }

  #remove(key: string, row: number): void {
    const there = this.#byPort.get(key);
    there?.delete(row);
    if (there?.size === 0) this.#byPort.delete(key);
  }
}

/** The number of a row among those that have ended, and back. */
const endedRow = (slot: number): number => -1 - slot;
const keyOf = ({ address, port }: Readonly<{ address: string; port: number }>): string => `${address} ${port}`;
