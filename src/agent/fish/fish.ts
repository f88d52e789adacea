import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import type { LeasedBlock } from '../../fish/ports/blocks.ts';
import type { FishConfig } from '../../fish/config.ts';
import type { FlowAnswer, FlowLogCursor } from '../../fish/log/flow-log.ts';
import type { FlowQuery } from '../../fish/flows/flow-tuple.ts';
import type { FlowFilter, FlowList } from '../../fish/log/flow-views.ts';
import type { ClosedSummary } from '../../fish/forwarder.ts';
import type { MssMax } from '../../fish/packet/mss-clamp.ts';
import type { TraceRequest } from '../../fish/log/packet-trace.ts';
import type { PortUse } from '../../fish/ports/port-use.ts';
import type { BusyRemote, Talker, TalkerKind } from '../../fish/log/talkers.ts';
import { closeFd } from '../../sys/descriptors.ts';
import { notify, openEventFd } from '../../sys/wait.ts';
import {
  endedFlows_max,
  lastWordsId,
  readyId,
  type Begun,
  type EndedBatch,
  type FishStats,
  type KeptFlows,
  type Operation,
  type Operations,
  type Reply,
  type TraceSoFar,
  type WorkerSetup,
} from './operations.ts';

/** A worker that has not ended by then, after it was asked to, is ended from outside. */
const stop_timeout_ms = 5_000;
/** Answers are held in memory at both ends. */
const flows_max = 10_000;
const matches_max = 1_000;

/** The thread's own program, which in a package is compiled like this one. */
const workerFile = new URL(import.meta.url.endsWith('.ts') ? 'worker.ts' : 'worker.js', import.meta.url);

/** Why an operation was not carried out: the thread is no more. */
export class FishDiedError extends Error {
  override readonly name = 'FishDiedError';
}

/**
 * Starts the packet path in a thread of its own. `config` as `fishConfig` checked it, with the `vnetHeaderBytes` of the TUN.
 * The TUN's descriptor must be non-blocking and stays the caller's, to be closed when fish has ended. No packet passes before
 * the first `setBlocks`, but for flows that are taken over (`kept`) and in their blocks. The thread is in the network namespace
 * in which the calling thread is now.
 */
export async function startFish(
  o: Readonly<{ config: FishConfig; tunFd: number; mark: number; kept?: KeptFlows }>,
): Promise<Fish> {
  const wakeFd = openEventFd();
  const setup: WorkerSetup = { ...o, kept: o.kept ?? null, wakeFd };
  const worker = new Worker(workerFile, { workerData: setup, name: 'fish' });
  const fish = new Fish(worker, wakeFd);
  await fish.ready;
  return fish;
}

type Waiting = Readonly<{ resolve: (answer: unknown) => void; reject: (error: Error) => void }>;

/** The main thread's handle on fish. Operations are carried out one after the other, in the order asked. */
export class Fish {
  readonly #worker: Worker;
  readonly #wakeFd: number;
  readonly #waiting = new Map<number, Waiting>();
  readonly #died = Promise.withResolvers<string>();
  #lastId = readyId;
  /** Why the thread ended, once it has. */
  #end: string | undefined;
  #isStopping = false;
  readonly #lastWords: EndedBatch[] = [];
  /** Resolves when packets are forwarded; rejects when the thread could not start. */
  readonly ready: Promise<Begun>;
  /** Resolves with the reason when the thread ends without `stop`: all flows are gone, and all operations reject. */
  readonly died: Promise<string> = this.#died.promise;

  constructor(worker: Worker, wakeFd: number) {
    this.#worker = worker;
    this.#wakeFd = wakeFd;
    this.ready = this.#reply(readyId) as Promise<Begun>;
    let failure: unknown;
    worker.on('message', (message) => this.#settle(message as Reply));
    worker.on('error', (error: unknown) => {
      failure = error;
    });
    worker.on('exit', (code) => this.#onExit(failure, code));
  }

  /**
   * Makes these the blocks to send from. When it resolves, the flows of blocks that are gone have ended and their
   * placeholders are closed; `refused` names the blocks that cannot be used, and why.
   */
  setBlocks(blocks: readonly LeasedBlock[]): Promise<ClosedSummary> {
    return this.#ask('setBlocks', blocks);
  }

  /** Takes all blocks of a lease away. */
  endLease(lease: string): Promise<ClosedSummary> {
    return this.#ask('endLease', lease);
  }

  /**
   * Opens no flow until the next `setBlocks`, and ends those there are; when it resolves, their placeholders are closed.
   */
  fence(): Promise<ClosedSummary> {
    return this.#ask('fence', null);
  }

  /** Gives no new flow a port of these leases, and of no others; those that they have go on. */
  drain(leases: readonly string[]): Promise<null> {
    return this.#ask('drain', leases);
  }

  /** SYNs announce no larger segments from now on. */
  clampMss(max: MssMax): Promise<null> {
    return this.#ask('clampMss', max);
  }

  /** Looks at some of the placeholders, others with each call: how many do not hold their tuples any more. */
  lostSockets(): Promise<number> {
    return this.#ask('lostSockets', null);
  }

  /** How far the leased ports are used. */
  portUse(): Promise<PortUse> {
    return this.#ask('portUse', null);
  }

  stats(): Promise<FishStats> {
    return this.#ask('stats', null);
  }

  /** Up to `max` of the flows, and no more than 10,000: the whole table is walked, which holds packets up for a moment. */
  flows(filter: FlowFilter = {}, max = flows_max): Promise<FlowList> {
    return this.#ask('flows', { filter, max: Math.min(max, flows_max) });
  }

  /** Who had a leased tuple at an instant: up to `max` flows, and no more than 1,000. */
  queryFlowLog(query: FlowQuery, max = matches_max): Promise<FlowAnswer> {
    return this.#ask('queryFlowLog', { query, max: Math.min(max, matches_max) });
  }

  /** Begins to write down what happens to some packets; false: that is under way for somebody else. */
  startTrace(request: TraceRequest): Promise<boolean> {
    return this.#ask('startTrace', request);
  }

  /** The packets, once the trace is over; then they are forgotten. */
  readTrace(): Promise<TraceSoFar> {
    return this.#ask('readTrace', null);
  }

  /** Those with the most bytes: the whole table is walked. */
  topTalkers(by: TalkerKind, max: number): Promise<readonly Talker[]> {
    return this.#ask('topTalkers', { by, max: Math.min(max, flows_max) });
  }

  /** Of each protocol, the remotes toward which most leased ports are used. */
  busyRemotes(max: number): Promise<readonly BusyRemote[]> {
    return this.#ask('busyRemotes', { max: Math.min(max, matches_max) });
  }

  /** What the flow log has from there on: up to 16,384 of the flows that have ended. */
  endedFlows(after: FlowLogCursor): Promise<EndedBatch> {
    return this.#ask('endedFlows', { after, max: endedFlows_max });
  }

  /**
   * What was not read of it by the thread's end. Its last batch is all there is to say about flows: whoever has it, and those
   * before, knows of every flow that ended. Empty when the thread was ended from outside.
   */
  get lastWords(): readonly EndedBatch[] {
    return this.#lastWords;
  }

  /**
   * Ends all flows, closes their placeholders, and resolves when the thread has ended. With `leave`, where flows are kept, they
   * stay as they are, for a successor. Any number of calls will do.
   */
  async stop({ leave = false }: Readonly<{ leave?: boolean }> = {}): Promise<void> {
    if (this.#end !== undefined) return;
    const exited = once(this.#worker, 'exit');
    if (!this.#isStopping) {
      this.#isStopping = true;
      // The thread's end is the answer that counts.
      this.#ask('stop', { leave }).catch(() => {});
    }
    const overdue = setTimeout(() => void this.#worker.terminate(), stop_timeout_ms);
    await exited;
    clearTimeout(overdue);
  }

  #ask<Op extends Operation>(operation: Op, ask: Operations[Op]['ask']): Promise<Operations[Op]['answer']> {
    if (this.#end !== undefined) return Promise.reject(new FishDiedError(this.#end));
    const id = ++this.#lastId;
    const answered = this.#reply(id) as Promise<Operations[Op]['answer']>;
    this.#worker.postMessage({ id, operation, ask });
    notify(this.#wakeFd);
    return answered;
  }

  #reply(id: number): Promise<unknown> {
    const { promise, ...waiting } = Promise.withResolvers<unknown>();
    this.#waiting.set(id, waiting);
    return promise;
  }

  #settle({ id, answer }: Reply): void {
    if (id === lastWordsId) this.#lastWords.push(answer as EndedBatch);
    this.#waiting.get(id)?.resolve(answer);
    this.#waiting.delete(id);
  }

  #onExit(failure: unknown, code: number): void {
    const reason = this.#isStopping ? 'fish was stopped' : `the thread ended with code ${code}`;
    this.#end = failure instanceof Error ? failure.message : reason;
    closeFd(this.#wakeFd);
    for (const { reject } of this.#waiting.values()) reject(new FishDiedError(this.#end, { cause: failure }));
    this.#waiting.clear();
    if (!this.#isStopping) this.#died.resolve(this.#end);
  }
}
