import type { FlowAnswer, FlowLogCursor } from '../../fish/log/flow-log.ts';
import type { FlowRecord } from '../../fish/log/flow-record.ts';
import { findFlowRecords, flowRecord_bytes, spanOf } from '../../fish/log/flow-records.ts';
import type { FlowQuery } from '../../fish/flows/flow-tuple.ts';
import type { EndedBatch } from '../fish/operations.ts';
import { frameOf, type Frame, type FrameHead } from './frames.ts';
import { Segments } from './segments.ts';

export type FlowLogLimits = Readonly<{
  /** How long a flow is remembered after it ended. */
  retention_s: number;
  bytes_max: number;
}>;

/** Times in which instants could not be told well that are remembered. */
const blurs_max = 4_096;

/**
 * The flows that have ended, on disk. What fish's own log has in memory is read from there again and again, so that both together
 * reach further back, also over a restart: over one after which nothing is missing.
 *
 * That is so when the fish before said, as its last word, that nobody knows of any other flow that ended (`end`), and how many
 * lasted; and the one after it took over just as many. Its word counts once: it is cut off before the next fish begins. Where flows
 * come from a log that goes on while nobody reads it, it is enough that it is read on from where it was.
 */
export class KeptFlowLog {
  readonly #segments: Segments;
  readonly #limits: FlowLogLimits;
  readonly #nowUs: () => number;
  readonly #blurs: (readonly [number, number])[] = [];
  /** What the log before said as its last word. */
  #before: Readonly<{ since: number; live: number }> | null = null;
  /** How far the log was read that the latest flows are from. */
  #read: Readonly<{ since: number } & NonNullable<FrameHead['read']>> | null = null;
  #beforeBytes = 0;
  /** Everything is known that ended from here on (µs), in memory or here; Infinity as long as that is not sure. */
  #since = Infinity;
  written = 0;
  /** Flows that were forgotten before they could be written. */
  missed = 0;

  /** Throws what the system says. */
  constructor(folder: string, limits: FlowLogLimits, nowUs: () => number) {
    this.#limits = limits;
    this.#nowUs = nowUs;
    let last: Frame | undefined;
    this.#segments = Segments.open(folder, limits.bytes_max, (frame) => {
      last = frame;
      if (frame.blurs > 0) this.#addBlurs(frame.head().blurs);
    });
    this.#heed(last);
  }

  #heed(last: Frame | undefined): void {
    if (!last) return;
    const { end, read } = last.head();
    if (read) this.#read = { ...read, since: last.since };
    if (!end) return;
    this.#before = { since: last.since, live: end.live };
    this.#beforeBytes = last.bytes;
  }

  get bytes(): number {
    return this.#segments.bytes;
  }

  get segments(): number {
    return this.#segments.count;
  }

  /** Before fish begins: from now on, whoever finds the log without another last word finds one with a gap. Throws SystemErrors. */
  begin(): void {
    this.#since = Infinity;
    if (this.#beforeBytes > 0) this.#segments.cutTail(this.#beforeBytes);
    this.#beforeBytes = 0;
  }

  /** Where that log is to be read on; from its beginning where the latest flows are of another. */
  cursorOf(source: string): FlowLogCursor {
    return { flows: this.#read?.source === source ? this.#read.flows : 0, blurs: 0 };
  }

  /** Throws what the system says, and then nothing was written: the same may be tried again. */
  async append(batch: EndedBatch): Promise<void> {
    const { tookOver, missed, coversSince, records, leases, blurs, source, next } = batch;
    // Before that no flow ends.
    if (!tookOver) return;
    const isFirst = this.#since === Infinity;
    if (isFirst) this.#since = this.#continues(batch, tookOver)?.since ?? coversSince;
    this.#before = null;
    if (missed > 0) this.#since = Math.max(this.#since, coversSince);
    const read = source === undefined ? {} : { read: { source, flows: next.flows } };
    if (records.length > 0 || blurs.length > 0 || (isFirst && source !== undefined))
      await this.#write({ leases, blurs, ...read }, records);
    if (source !== undefined) this.#read = { source, flows: next.flows, since: this.#since };
    this.#addBlurs(blurs);
    this.written += records.length / flowRecord_bytes;
    this.missed += missed;
  }

  /** What this batch goes on behind without a gap. */
  #continues(
    { source }: EndedBatch,
    tookOver: NonNullable<EndedBatch['tookOver']>,
  ): Readonly<{ since: number }> | null {
    if (source !== undefined && this.#read?.source === source) return this.#read;
    return this.#before?.live === tookOver.live && tookOver.lost === 0 ? this.#before : null;
  }

  /** The last word: `live` flows last, and everything that ended is written. */
  async end(live: number): Promise<void> {
    if (this.#since === Infinity) return;
    const read = this.#read && { read: { source: this.#read.source, flows: this.#read.flows } };
    const head: FrameHead = { leases: [], blurs: [], end: { live }, ...read };
    this.#beforeBytes = await this.#write(head, new Uint8Array(0));
    await this.#segments.sync();
    this.#before = { since: this.#since, live };
  }

  async #write(head: FrameHead, records: Uint8Array): Promise<number> {
    const frame = frameOf(head, this.#since, records);
    await this.#segments.append(frame, spanOf({ records }), (this.#limits.retention_s * 1_000_000) / 8);
    return frame.length;
  }

  /** On the disk, whatever happens to the power; and what is too old, or too much, is gone. */
  async tidy(): Promise<void> {
    await this.#segments.sync();
    const forgotten = this.#segments.removeOld(this.#keptSince());
    this.#since = Math.max(this.#since, forgotten + 1);
  }

  #keptSince(): number {
    return this.#nowUs() - this.#limits.retention_s * 1_000_000;
  }

  #addBlurs(blurs: FrameHead['blurs']): void {
    this.#blurs.push(...blurs);
    const tooMany = this.#blurs.splice(0, Math.max(0, this.#blurs.length - blurs_max));
    for (const [, to] of tooMany) this.#since = Math.max(this.#since, to + 1);
  }

  /** As `FlowLog.coversSince`, for what is in memory and here together. */
  coversSince(at: number, marginUs: number): number {
    let since = Math.max(this.#since, this.#keptSince());
    for (const [from, to] of this.#blurs)
      if (from <= at + marginUs && at - marginUs <= to) since = Math.max(since, to + marginUs + 1);
    return since;
  }

  /** Up to `max` of the flows that had this tuple then, the latest first. Throws what the system says. */
  async search(query: FlowQuery, marginUs: number, max: number): Promise<FlowRecord[]> {
    const found: FlowRecord[] = [];
    const closedSince = this.#keptSince();
    for await (const frame of this.#segments.framesAt(query.at, marginUs)) {
      const records = { records: frame.records, leases: frame.head().leases };
      found.push(...findFlowRecords(records, query, { marginUs, closedSince, max: max - found.length }));
      if (found.length >= max) break;
    }
    return found;
  }

  close(): Promise<void> {
    return this.#segments.close();
  }
}

/** What memory says, and what was found beside it; each flow once. */
export function withKept(
  answer: FlowAnswer,
  kept: readonly FlowRecord[],
  o: Readonly<{ since: number; at: number; max: number }>,
): FlowAnswer {
  const keyOf = (flow: FlowRecord) =>
    [flow.lease, flow.client, flow.clientPort, flow.remote, flow.remotePort, flow.openedAt].join(' ');
  const known = new Map(kept.map((flow) => [keyOf(flow), flow]));
  for (const flow of answer.matches) known.delete(keyOf(flow));
  const matches = [...answer.matches, ...known.values()];
  const coversSince = Math.min(answer.coversSince, o.since);
  const { marginUs, coversThrough } = answer;
  const isCovered = coversSince <= o.at - marginUs && o.at + marginUs <= coversThrough;
  return {
    ...answer,
    verdict: matches.length > 0 ? 'match' : isCovered ? 'not_mine' : 'not_covered',
    matches: matches.slice(0, o.max),
    truncated: answer.truncated || matches.length > o.max,
    coversSince,
  };
}
