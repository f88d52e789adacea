import { existsSync, rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { FlowAnswer } from '../../fish/log/flow-log.ts';
import type { FlowQuery } from '../../fish/flows/flow-tuple.ts';
import type { Logger } from '../../ops/logger.ts';
import { margin_us } from '../../terminate/connection-log.ts';
import { logsBeside } from '../../terminate/log-file.ts';
import { ConnectionsSource } from './connections-source.ts';
import { FlowLogKeeper } from './flow-log-keeper.ts';
import { KeptFlowLog, withKept, type FlowLogLimits } from './kept-flow-log.ts';

type Parts = Readonly<{
  /** Where the flow log is, on disk. */
  folder: string;
  limits: FlowLogLimits;
  /** The socket of the terminators, which have their files beside it. */
  socket: string;
  log: Pick<Logger, 'error' | 'info' | 'warn'>;
  nowUs(): number;
}>;

const tries_max = 40;
const between_tries_ms = 25;

type Followed = Readonly<{ path: string; source: ConnectionsSource; keeper: FlowLogKeeper | null }>;

/**
 * The flow log of the terminating path: written as fish's is, from the file in which a terminator has its connections. That
 * outlives its process, so nothing is missing of one that was killed; nor of one that went on while no agent was there.
 */
export class TerminatedFlows {
  readonly #parts: Parts;
  #kept: KeptFlowLog | undefined;
  #followed: Followed | undefined;
  /** Everything of a terminator that is no more could be written. */
  #isWhole = true;
  /** One at a time. */
  #working: Promise<void> = Promise.resolve();
  problem: string | null = null;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** A terminator is at work, with this file. Of others that there are files of, the rest is written first. Never rejects. */
  follow(path: string): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#followed?.path === path) return;
      await this.#end();
      for (const left of logsBeside(this.#parts.socket).filter((each) => each !== path)) await this.#finish(left);
      this.#followed = this.#open(path);
    });
  }

  /** The terminator that was followed is gone: its connections are over by now. Never rejects. */
  ended(): Promise<void> {
    return this.#inTurn(() => this.#end());
  }

  /** It goes on without being followed, until somebody does again. Never rejects. */
  leave(): Promise<void> {
    return this.#inTurn(async () => {
      const followed = this.#followed;
      this.#followed = undefined;
      if (followed) await this.#leave(followed);
    });
  }

  /** What is known of the connections that had this tuple then; `answer`: by the terminator itself, null where none is at work. */
  async complete(query: FlowQuery, answer: FlowAnswer | null, max: number): Promise<FlowAnswer> {
    await this.#working;
    const keeper = this.#followed?.keeper;
    if (answer && keeper) return keeper.complete(query, answer, max);
    const nobody: FlowAnswer = {
      ...{ verdict: 'not_covered', matches: [], truncated: false, marginUs: margin_us },
      ...{ coversSince: Infinity, coversThrough: this.#parts.nowUs() },
    };
    const known = answer ?? nobody;
    const kept = this.#kept;
    if (!kept) return known;
    const found = await kept.search(query, known.marginUs, max + 1);
    const since = this.#isWhole && !keeper ? kept.coversSince(query.at, known.marginUs) : Infinity;
    return withKept(known, found, { since, at: query.at, max });
  }

  /** Numbers for status and metrics. */
  stats(): Readonly<Record<string, number>> {
    const stats = this.#followed?.keeper?.stats() ?? {};
    return Object.fromEntries(Object.entries(stats).map(([name, value]) => [name.replace(/^flow_log_/, ''), value]));
  }

  #inTurn(work: () => Promise<void>): Promise<void> {
    const working = this.#working
      .then(work)
      .then(() => {
        this.problem = null;
      })
      .catch((error: unknown) => {
        this.problem = `the log of terminated connections: ${error instanceof Error ? error.message : String(error)}`;
        this.#parts.log.error(this.problem);
      });
    this.#working = working;
    return working;
  }

  /** Throws what the system says. */
  #open(path: string): Followed {
    const { log } = this.#parts;
    const kept = this.#keptLog();
    const source = new ConnectionsSource(path, (name) => kept?.cursorOf(name) ?? { flows: 0, blurs: 0 });
    kept?.begin();
    this.#isWhole = true;
    return { path, source, keeper: kept && new FlowLogKeeper(kept, source, log, kept.cursorOf(source.name)) };
  }

  /** null where nothing is written. Throws what the system says. */
  #keptLog(): KeptFlowLog | null {
    const { folder, limits, nowUs } = this.#parts;
    // A log that is not written any more would have a gap that nobody knows of.
    if (limits.retention_s === 0) rmSync(folder, { recursive: true, force: true });
    else this.#kept ??= new KeptFlowLog(folder, limits, nowUs);
    return this.#kept ?? null;
  }

  async #end(): Promise<void> {
    const followed = this.#followed;
    this.#followed = undefined;
    if (!followed) return;
    const closedAt = this.#parts.nowUs();
    // The end of a process takes a moment, and is seen before it is over.
    for (let tries = 0; tries < tries_max && followed.source.isAtWork; tries++) await sleep(between_tries_ms);
    if (!followed.source.isAtWork) await this.#close(followed, closedAt, null);
    else await this.#leave(followed);
  }

  async #leave({ source, keeper }: Followed): Promise<void> {
    await keeper?.end();
    source.close();
    // What it does from now on is not known before it is followed again.
    this.#isWhole = false;
  }

  /** Nobody saw when that process ended. */
  async #finish(path: string): Promise<void> {
    const problem = ConnectionsSource.problemOf(path);
    if (problem !== null) {
      // One that was killed before it had begun has nothing to tell.
      this.#parts.log.warn(`${path} is no log of connections, and is removed: ${problem}`);
      rmSync(path, { force: true });
      return;
    }
    const left = this.#open(path);
    const { aliveAt, isAtWork } = left.source;
    if (isAtWork) return this.#leave(left);
    const now = this.#parts.nowUs();
    await this.#close(left, Math.min(aliveAt, now), [Math.min(aliveAt, now), now]);
  }

  /** The file is removed once everything of it is on disk; until then it is tried again with the next terminator. */
  async #close(
    { path, source, keeper }: Followed,
    closedAt: number,
    blur: readonly [number, number] | null,
  ): Promise<void> {
    source.finish(closedAt, blur);
    this.#isWhole = (await keeper?.end()) ?? true;
    source.close();
    if (this.#isWhole) rmSync(path, { force: true });
    else if (existsSync(path)) this.#parts.log.warn(`${path} is kept until its connections can be written to disk`);
  }
}
