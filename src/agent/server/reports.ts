import type { Applied, AppliedAnswer, BlockedPorts, ReportOutcome } from '../../wire/agent.ts';
import type { Logger } from '../../ops/logger.ts';
import { keyOfBlocked } from './desired.ts';
import type { LeaseOutcome } from '../leases/lease-host.ts';
import { Bell, isOver } from '../start/waiting.ts';

export type SliceOutcome = Readonly<{ slice: string; generation: number; state: 'assigned' | 'empty' }>;

export type ReportParts = Readonly<{
  send(applied: Applied, signal: AbortSignal): Promise<AppliedAnswer>;
  /** Whether an error says that this very report will never be taken, however often it is repeated. */
  isHopeless(error: unknown): boolean;
  /** Waits before attempt number `attempt` (1 is the first repetition); rejects when the signal aborts. */
  pause(attempt: number, signal: AbortSignal): Promise<void>;
  log: Pick<Logger, 'warn' | 'info' | 'error'>;
}>;

/** What the server knows better: that word is over, and nothing is wrong. */
const overCodes: readonly ReportOutcome['code'][] = [
  'lease_not_found',
  'slice_not_found',
  'stale_token',
  'nothing_blocked',
  'reclaimed',
];
/** That are remembered to be told to people. */
const disputes_max = 1_000;

/** As the server takes them in one report. */
const items_max = 10_000;

/**
 * What the server has to hear, until it has heard it: at most one word per lease and slice, the latest. A report is
 * repeated until it is answered; what the server then rejects (stale, already over) is dropped, because it knows better.
 */
export class Reports {
  readonly #parts: ReportParts;
  readonly #leases = new Map<string, LeaseOutcome>();
  readonly #slices = new Map<string, SliceOutcome>();
  readonly #clear = new Map<string, BlockedPorts>();
  #revision = 0;
  #reported = -1;
  readonly #bell = new Bell();
  #idle: (() => void)[] = [];
  rejected = 0;
  readonly #disputes = new Map<string, string>();
  /** What the server did not take. */
  onRejected: (rejection: ReportOutcome) => void = () => {};

  constructor(parts: ReportParts) {
    this.#parts = parts;
  }

  /** How much is still to be told. */
  get waiting(): number {
    return this.#leases.size + this.#slices.size + this.#clear.size;
  }

  /** Leases and slices of which the server did not take the last word, a line each: host and server see them differently. */
  get disputes(): readonly string[] {
    return [...this.#disputes].map(([item, why]) => `${item}: ${why}`);
  }

  /** `clear`: blocked ports whose strangers are gone. */
  add(
    leases: readonly LeaseOutcome[],
    slices: readonly SliceOutcome[],
    revision: number,
    clear: readonly BlockedPorts[] = [],
  ): void {
    for (const outcome of leases) this.#leases.set(outcome.lease, outcome);
    for (const outcome of slices) this.#slices.set(outcome.slice, outcome);
    for (const place of clear) this.#clear.set(keyOfBlocked(place), place);
    this.#revision = Math.max(this.#revision, revision);
    if (this.waiting > 0) this.#bell.ring();
  }

  /** Everything is known anew (a snapshot): what was going to be said may be about another life of the same thing. */
  clear(): void {
    this.#leases.clear();
    this.#slices.clear();
    this.#clear.clear();
    this.#disputes.clear();
    this.#revision = 0;
  }

  /** Resolves when nothing waits to be told. */
  async settled(): Promise<void> {
    if (this.waiting === 0) return;
    const { promise, resolve } = Promise.withResolvers<undefined>();
    this.#idle.push(() => resolve(undefined));
    await promise;
  }

  async run(signal: AbortSignal): Promise<void> {
    while (!isOver(signal)) {
      if (this.waiting > 0) await this.#send(signal);
      else {
        for (const resolve of this.#idle.splice(0)) resolve();
        await this.#bell.heard(signal);
      }
    }
  }

  async #send(signal: AbortSignal): Promise<void> {
    const leases = [...this.#leases.values()].slice(0, items_max);
    const slices = [...this.#slices.values()].slice(0, items_max);
    const clear = [...this.#clear.values()].slice(0, items_max);
    const applied: Applied = { revision: this.#revision, leases, slices, ...(clear.length > 0 ? { clear } : {}) };
    for (let attempt = 1; !isOver(signal); attempt++) {
      try {
        const answer = await this.#parts.send(applied, signal);
        this.#reported = applied.revision;
        for (const rejection of answer.rejected) this.#parts.log.info(rejection, 'the server dropped a report');
        this.rejected += answer.rejected.length;
        for (const { lease } of leases) this.#disputes.delete(lease);
        for (const { slice } of slices) this.#disputes.delete(slice);
        for (const { item, code, detail } of answer.rejected)
          if (!overCodes.includes(code) && this.#disputes.size < disputes_max)
            this.#disputes.set(item, detail === '' ? code : `${code}, ${detail}`);
        this.#forget(leases, slices, clear);
        answer.rejected.forEach(this.onRejected);
        return;
      } catch (error) {
        if (isOver(signal)) return;
        const why = error instanceof Error ? error.message : String(error);
        if (this.#parts.isHopeless(error)) {
          // The next snapshot shows what the server makes of it, and what still stands is reported again then.
          this.#parts.log.error(`the server does not understand a report, it is dropped: ${why}`);
          this.#forget(leases, slices, clear);
          return;
        }
        this.#parts.log.warn({ waiting: this.waiting, attempt }, `report not delivered: ${why}`);
        await this.#parts.pause(attempt, signal).catch(() => {});
      }
    }
  }

  /** But for what something newer has come up about meanwhile. */
  #forget(leases: readonly LeaseOutcome[], slices: readonly SliceOutcome[], clear: readonly BlockedPorts[]): void {
    for (const each of clear) if (this.#clear.get(keyOfBlocked(each)) === each) this.#clear.delete(keyOfBlocked(each));
    for (const each of leases) if (this.#leases.get(each.lease) === each) this.#leases.delete(each.lease);
    for (const each of slices) if (this.#slices.get(each.slice) === each) this.#slices.delete(each.slice);
  }

  get reportedRevision(): number {
    return this.#reported;
  }
}
