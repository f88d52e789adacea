import { AddressBook } from '../packet/address-book.ts';
import {
  copyTuple,
  describeTuple,
  makeTupleRows,
  rowMatches,
  wantedTuple,
  type FlowQuery,
  type TupleRows,
} from '../flows/flow-tuple.ts';
import { endings, type Ending, type FlowRecord } from './flow-record.ts';
import { flowRecord_bytes, writeFlowRecord, type FlowRecords } from './flow-records.ts';
import { LeaseNames } from './lease-names.ts';
import { IPV6 } from '../packet/packet.ts';

/**
 * `matches` with the verdict `match`: the flows that had the tuple. `not_mine`: none had, and the log would know.
 * `not_covered`: none is known, but the log does not reach there. All that is covered lies between the two instants;
 * a match from before `coversSince` is as true as any, but others may have been forgotten. `marginUs` is how far the
 * instants of a record may be off; matches count from so long before a flow opened until so long after it closed.
 */
export type FlowAnswer = Readonly<{
  verdict: 'match' | 'not_mine' | 'not_covered';
  matches: readonly FlowRecord[];
  /** More matched than were asked for. */
  truncated: boolean;
  coversSince: number;
  coversThrough: number;
  marginUs: number;
}>;

/** How far somebody who keeps the log elsewhere has read it: flows and blurs ever written. */
export type FlowLogCursor = Readonly<{ flows: number; blurs: number }>;

/** What the log has from a cursor on. */
export type EndedFlows = FlowRecords &
  Readonly<{
    /** Where to read on. */
    next: FlowLogCursor;
    /** Flows and blurs between that were overwritten before they were read. */
    missed: number;
    /** As of now the log knows everything from here on by itself (µs), but for the blurs. */
    coversSince: number;
    /** From and to (µs). */
    blurs: readonly (readonly [number, number])[];
  }>;

/** Client, leased address and remote. */
const addressesPerEntry_max = 3;

/** Times in which instants could not be told well that are remembered. */
const blurs_max = 4_096;

/**
 * The flows that have ended, the latest so many, in a ring of typed arrays. The flows that last are in the flow table;
 * both together know everything since `coversSince`: an entry that the ring has overwritten ended before that.
 *
 * A record's end is the end of use: the rest that a tuple takes afterwards is nobody's use.
 */
export class FlowLog {
  readonly #size: number;
  readonly #tuples: TupleRows;
  readonly #openedAt: Float64Array;
  readonly #closedAt: Float64Array;
  readonly #ending: Uint8Array;
  readonly #lease: Uint32Array;
  readonly #leases = new LeaseNames();
  readonly #random: () => number;
  /** The IPv6 addresses of the entries; made when the first of them is written. */
  #book = new AddressBook(new Uint32Array(0), () => 0);
  /** Entries ever written. */
  #written = 0;
  #coversSince: number;
  readonly #blurredFrom = new Float64Array(blurs_max);
  readonly #blurredTo = new Float64Array(blurs_max);
  /** Blurs ever noted. */
  #blurred = 0;
  readonly marginUs: number;

  /**
   * `since`: the instant (µs) before which no flow was recorded, that is, when recording begins. `marginUs`: how far the
   * instants that it is told may be from those of the host's clock. `random`: seeds the hash by which IPv6 addresses are found.
   */
  constructor(o: Readonly<{ entriesMax: number; since: number; marginUs?: number; random?: () => number }>) {
    const size = o.entriesMax;
    this.#size = size;
    this.marginUs = o.marginUs ?? 0;
    this.#random = o.random ?? (() => 0);
    this.#tuples = makeTupleRows(size);
    this.#openedAt = new Float64Array(size);
    this.#closedAt = new Float64Array(size);
    this.#ending = new Uint8Array(size);
    this.#lease = new Uint32Array(size);
    this.#coversSince = o.since;
  }

  /** What ended before this instant (µs) is not recorded here: there was another log. */
  beginAt(instant: number): void {
    this.#coversSince = Math.max(this.#coversSince, instant);
  }

  /**
   * The log is complete from here on, together with the flows that last (µs), as far as the instant `at` is concerned: if
   * that is in a blur, only what comes after the blur is known well enough to say that there was no flow.
   */
  coversSince(at: number): number {
    let since = this.#coversSince;
    for (let entry = 0; entry < Math.min(this.#blurred, blurs_max); entry++)
      if (this.#blurredFrom[entry]! <= at + this.marginUs && at - this.marginUs <= this.#blurredTo[entry]!)
        since = Math.max(since, this.#blurredTo[entry]! + this.marginUs + 1);
    return since;
  }

  /**
   * Between these instants (µs, in fractions too) records may be further off than the margin: nobody looked at the clock for
   * too long, or it was set.
   */
  blur(from: number, to: number): void {
    const entry = this.#blurred % blurs_max;
    if (this.#blurred >= blurs_max) this.#coversSince = Math.max(this.#coversSince, this.#blurredTo[entry]! + 1);
    this.#blurred++;
    // Instants are whole microseconds, also those that an answer is made of.
    this.#blurredFrom[entry] = Math.floor(from);
    this.#blurredTo[entry] = Math.ceil(to);
  }

  /** Records that a flow has ended; the oldest entry makes room. `book`: where the flows have their addresses. */
  record(
    flows: TupleRows,
    flow: number,
    book: AddressBook,
    lease: string,
    openedAt: number,
    closedAt: number,
    ending: Ending,
  ): void {
    const entry = this.#written % this.#size;
    if (this.#written >= this.#size) this.#forget(entry);
    this.#written++;
    copyTuple(flows, flow, this.#tuples, entry);
    if (this.#tuples.protocol[entry]! >= IPV6) this.#holdAddresses(entry, book);
    this.#openedAt[entry] = openedAt;
    this.#closedAt[entry] = closedAt;
    this.#ending[entry] = endings.indexOf(ending);
    this.#lease[entry] = this.#leases.hold(lease);
  }

  /** Up to `max` of the ended flows that had this tuple then, the latest first: one pass over the ring. */
  search(query: FlowQuery, max: number): FlowRecord[] {
    const wanted = wantedTuple(query, this.#book);
    const found: FlowRecord[] = [];
    const oldest = Math.max(0, this.#written - this.#size);
    for (let n = this.#written - 1; n >= oldest && found.length < max; n--) {
      const entry = n % this.#size;
      // Both ends count: a packet may carry either instant.
      const inTime =
        this.#openedAt[entry]! - this.marginUs <= query.at && query.at <= this.#closedAt[entry]! + this.marginUs;
      if (inTime && rowMatches(this.#tuples, entry, wanted)) found.push(this.#read(entry));
    }
    return found;
  }

  /** Up to `max` of the flows that have ended since, the earliest first, and all blurs. */
  read(after: FlowLogCursor, max: number): EndedFlows {
    const first = Math.max(after.flows, this.#written - this.#size);
    const end = Math.min(this.#written, first + max);
    const firstBlur = Math.max(after.blurs, this.#blurred - blurs_max);
    const names = new Map<number, number>();
    const records = new Uint8Array((end - first) * flowRecord_bytes);
    const view = new DataView(records.buffer);
    for (let n = first; n < end; n++) {
      const entry = n % this.#size;
      // entry is a row of every column.
      const lease = this.#lease[entry]!;
      if (!names.has(lease)) names.set(lease, names.size);
      writeFlowRecord(view, (n - first) * flowRecord_bytes, {
        ...{ rows: this.#tuples, row: entry, book: this.#book, lease: names.get(lease) ?? 0 },
        ...{ openedAt: this.#openedAt[entry]!, closedAt: this.#closedAt[entry]!, ending: this.#ending[entry]! },
      });
    }
    return {
      records,
      leases: [...names.keys()].map((number) => this.#leases.nameOf(number)),
      next: { flows: end, blurs: this.#blurred },
      missed: first - after.flows + (firstBlur - after.blurs),
      coversSince: this.#coversSince,
      blurs: Array.from({ length: this.#blurred - firstBlur }, (_, index): readonly [number, number] => {
        const entry = (firstBlur + index) % blurs_max;
        return [this.#blurredFrom[entry]!, this.#blurredTo[entry]!];
      }),
    };
  }

  /** Of a row that was copied as it is: its addresses are numbers of the flows' book. */
  #holdAddresses(entry: number, from: AddressBook): void {
    // Three addresses an entry, so there is always room. Memory that nobody has written to costs nothing.
    if (this.#book.capacity === 0) {
      this.#book = new AddressBook(new Uint32Array((this.#size * addressesPerEntry_max + 1) * 4), this.#random);
      this.#book.settle();
    }
    const { client, leased, remote } = this.#tuples;
    client[entry] = this.#book.holdFrom(from, client[entry]!);
    leased[entry] = this.#book.holdFrom(from, leased[entry]!);
    if (remote[entry] !== 0) remote[entry] = this.#book.holdFrom(from, remote[entry]!);
  }

  #letGoAddresses(entry: number): void {
    const { client, leased, remote } = this.#tuples;
    this.#book.letGo(client[entry]!);
    this.#book.letGo(leased[entry]!);
    if (remote[entry] !== 0) this.#book.letGo(remote[entry]!);
  }

  #forget(entry: number): void {
    // Clocks are set back now and then, so the latest end is not always that of the latest entry.
    this.#coversSince = Math.max(this.#coversSince, this.#closedAt[entry]! + 1);
    this.#leases.letGo(this.#lease[entry]!);
    if (this.#tuples.protocol[entry]! >= IPV6) this.#letGoAddresses(entry);
  }

  #read(entry: number): FlowRecord {
    return {
      lease: this.#leases.nameOf(this.#lease[entry]!),
      ...describeTuple(this.#tuples, entry, this.#book),
      openedAt: this.#openedAt[entry]!,
      closedAt: this.#closedAt[entry]!,
      ending: endings[this.#ending[entry]!] ?? null,
    };
  }
}
