import { setTimeout as sleep } from 'node:timers/promises';
import type { FlowAnswer, FlowLogCursor } from '../../fish/log/flow-log.ts';
import { flowRecord_bytes } from '../../fish/log/flow-records.ts';
import type { FlowQuery } from '../../fish/flows/flow-tuple.ts';
import type { Logger } from '../../ops/logger.ts';
import type { Fish } from '../fish/fish.ts';
import { endedFlows_max, type EndedBatch } from '../fish/operations.ts';
import { withKept, type KeptFlowLog } from './kept-flow-log.ts';

/** Fish's thread is asked as often, and the disk told to have it. */
const between_ms = 500;

/** Fish, or another that has flows. `lastWords` are asked for when it is no more: what was not read of it. */
export type FlowSource = Pick<Fish, 'endedFlows' | 'lastWords'>;

/**
 * Keeps one fish's flow log on disk: asks it for what has ended, in pieces, and writes that. While the disk does not take it,
 * fish's memory has it, as far as that reaches back, and it is tried again.
 */
export class FlowLogKeeper {
  readonly #kept: KeptFlowLog;
  readonly #fish: FlowSource;
  readonly #log: Pick<Logger, 'error' | 'info'>;
  readonly #stopping = new AbortController();
  #next: FlowLogCursor;
  /** One at a time: whoever asks meanwhile waits for it. */
  #draining: Promise<void> = Promise.resolve();
  readonly #loop: Promise<void>;
  #ended: Promise<boolean> | undefined;
  writeFailures = 0;
  problem: string | null = null;

  /** `from`: where its log is to be read on. */
  constructor(
    kept: KeptFlowLog,
    fish: FlowSource,
    log: Pick<Logger, 'error' | 'info'>,
    from: FlowLogCursor = { flows: 0, blurs: 0 },
  ) {
    this.#next = from;
    this.#kept = kept;
    this.#fish = fish;
    this.#log = log;
    this.#loop = this.#run();
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      await this.#drain().catch(() => {
        // The thread is no more; `end` will be called.
      });
      await this.#reporting(() => this.#kept.tidy());
      await sleep(between_ms, undefined, { signal, ref: false }).catch(() => {});
    }
  }

  /** Until nothing is left that has ended by now, or the disk does not take it. Rejects when the thread is no more. */
  #drain(): Promise<void> {
    const drained = this.#draining.catch(() => {}).then(() => this.#drainNow());
    this.#draining = drained;
    return drained;
  }

  async #drainNow(): Promise<void> {
    for (let isMore = true; isMore;) {
      const batch = await this.#fish.endedFlows(this.#next);
      isMore = (await this.#take(batch)) && isFull(batch);
    }
  }

  /** Whether it is written, but for what was before. */
  async #take(batch: EndedBatch): Promise<boolean> {
    const known = this.#next.flows - (batch.next.flows - batch.records.length / flowRecord_bytes);
    const fresh = known > 0 ? { ...batch, records: batch.records.subarray(known * flowRecord_bytes) } : batch;
    const isWritten = await this.#reporting(() => this.#kept.append(fresh));
    if (!isWritten) return false;
    this.#next = batch.next;
    if (this.problem !== null) this.#log.info('the flow log is written to disk again');
    this.problem = null;
    return true;
  }

  async #reporting(work: () => Promise<void>): Promise<boolean> {
    try {
      await work();
      return true;
    } catch (error) {
      this.writeFailures++;
      const said = error instanceof Error ? error.message : String(error);
      if (this.problem === null) this.#log.error(`the flow log cannot be written to disk: ${said}`);
      this.problem = said;
      return false;
    }
  }

  /** `answer` came from memory; where that does not reach back to the question, what is on disk comes to it. */
  async complete(query: FlowQuery, answer: FlowAnswer, max: number): Promise<FlowAnswer> {
    const { marginUs } = answer;
    if (answer.coversSince <= query.at - marginUs) return answer;
    // Blurs that memory knows of may not have been read yet.
    await this.#drain();
    const found = await this.#kept.search(query, marginUs, max + 1);
    return withKept(answer, found, { since: this.#kept.coversSince(query.at, marginUs), at: query.at, max });
  }

  /** Numbers for status and metrics. */
  stats(): Readonly<Record<string, number>> {
    const kept = this.#kept;
    return {
      flow_log_disk_bytes: kept.bytes,
      flow_log_disk_segments: kept.segments,
      flow_log_disk_flows_written: kept.written,
      flow_log_disk_flows_missed: kept.missed,
      flow_log_disk_write_failures: this.writeFailures,
    };
  }

  /** When fish's thread has ended: writes its last words, if it had any. Whether that was possible. */
  end(): Promise<boolean> {
    this.#ended ??= this.#end();
    return this.#ended;
  }

  async #end(): Promise<boolean> {
    this.#stopping.abort();
    await this.#loop;
    await this.#draining.catch(() => {});
    const { lastWords } = this.#fish;
    let isWritten = true;
    for (const batch of lastWords) isWritten = isWritten && (await this.#take(batch));
    const last = lastWords.at(-1);
    if (isWritten && last && !isFull(last)) await this.#reporting(() => this.#kept.end(last.live));
    await this.#reporting(() => this.#kept.tidy());
    await this.#reporting(() => this.#kept.close());
    return isWritten;
  }
}

/** As many as were asked for: there may be more. */
const isFull = ({ records }: EndedBatch): boolean => records.length === endedFlows_max * flowRecord_bytes;
