import type { Command, Output } from './commands.ts';
import type { LeaseError } from './errors.ts';
import type { Clock } from './lease-service.ts';
import { limits } from './limits.ts';
import type { Store } from './store.ts';
import type { Result } from '../net/result.ts';

/** Calls back once, `ms` from now, unless cancelled before. */
export type Timer = (run: () => void, ms: number) => { cancel(): void };

const systemTimer: Timer = (run, ms) => {
  const timer = setTimeout(run, ms);
  return { cancel: () => clearTimeout(timer) };
};

export type SweeperParts = Readonly<{
  execute: (command: Command<'sweep'>) => Promise<Result<Output<'sweep'>, LeaseError>>;
  store: Pick<Store, 'compact' | 'forget' | 'prune'>;
  clock: Clock;
  timer?: Timer;
  /** Between two rounds when nothing is left over. */
  pauseMs?: number;
  itemsMax?: number;
  /** Newest events that the log keeps for followers who were away. */
  eventsKept?: number;
  /** For how long answers are kept at least for their requests to come again, in microseconds. */
  answersKeptUs?: number;
  /** How long it stays known who had what (microseconds). */
  historyKeptUs?: number;
  /** For how long the audit log is kept at least, in microseconds. */
  auditKeptUs?: number;
  /** The first of the rounds that fail in a row: the store cannot be written, say. The next comes after the usual pause. */
  onError?: (error: unknown) => void;
}>;

/**
 * The one loop of the server: expire, settle, free, compact, forget, prune. Bounded steps, so that nobody waits long
 * behind one, and the next at once while there is more.
 */
export class Sweeper {
  readonly #parts: Required<SweeperParts>;
  #isStopped = true;
  #isFailing = false;
  #pruneAt = 0;
  #pending: { cancel(): void } | undefined;
  #round: Promise<void> = Promise.resolve();

  constructor(parts: SweeperParts) {
    this.#parts = {
      timer: systemTimer,
      pauseMs: limits.sweep_pause_ms,
      itemsMax: limits.sweep_items_max,
      eventsKept: limits.events_kept_min,
      answersKeptUs: limits.answers_kept_us,
      historyKeptUs: limits.history_kept_us,
      auditKeptUs: limits.audit_kept_us,
      onError: () => {},
      ...parts,
    };
  }

  start(): void {
    if (!this.#isStopped) return;
    this.#isStopped = false;
    this.#next(0);
  }

  /** No further round begins; resolves when the one that runs is over. */
  stop(): Promise<void> {
    this.#isStopped = true;
    this.#pending?.cancel();
    return this.#round;
  }

  #next(ms: number): void {
    this.#pending = this.#parts.timer(() => {
      this.#round = this.#sweep();
    }, ms);
  }

  async #sweep(): Promise<void> {
    const { execute, store, clock, pauseMs, itemsMax, eventsKept, answersKeptUs, auditKeptUs, onError } = this.#parts;
    let more = false;
    try {
      const swept = await execute({ kind: 'sweep', itemsMax });
      const compacted = await store.compact({ keep: eventsKept, rowsMax: limits.compacted_events_max });
      const forget = (what: 'answers' | 'audit', keptUs: number) =>
        store.forget({ what, before: clock.nowUs() - keptUs, rowsMax: limits.forgotten_rows_max });
      const answers = await forget('answers', answersKeptUs);
      const audit = await forget('audit', auditKeptUs);
      const pruned = await this.#prune();
      more = [compacted, answers, audit, pruned].some((step) => step.more) || (swept.ok && swept.value.more);
      this.#isFailing = false;
    } catch (error) {
      if (!this.#isFailing) onError(error);
      this.#isFailing = true;
    }
    if (!this.#isStopped) this.#next(more ? 0 : pauseMs);
  }
  /** The past ends no sharper than this: there is no need to look for what is due in every round. */
  async #prune(): Promise<Readonly<{ more: boolean }>> {
    const { store, clock, historyKeptUs } = this.#parts;
    const now = clock.nowUs();
    if (now < this.#pruneAt) return { more: false };
    const pruned = await store.prune({ now, keptUs: historyKeptUs, rowsMax: limits.pruned_rows_max });
    if (!pruned.more) this.#pruneAt = now + limits.prune_pause_ms * 1_000;
    return pruned;
  }
}
