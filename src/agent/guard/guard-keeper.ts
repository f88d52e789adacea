import type { Logger } from '../../ops/logger.ts';
import type { Horizon } from './horizon-memory.ts';
import { Bell, isOver } from '../start/waiting.ts';

/** What the keeper needs of the server and of the host. */
export type GuardKeeperParts = Readonly<{
  /** One keepalive; what it answers says for how long the guard may be open from when it was SENT. */
  send(timeoutMs: number, signal: AbortSignal): Promise<Readonly<{ fence_s: number }>>;
  /** Opens the guard for so long from now. Throws when the table is not there. */
  open(ms: number): void;
  /** Shuts it at once; no table is fine. */
  shut(): void;
  log: Pick<Logger, 'info' | 'warn' | 'error'>;
  /** Milliseconds, never backwards, and going on while the machine sleeps (CLOCK_BOOTTIME). */
  now(): number;
  /** Milliseconds, never backwards, that stand while the machine sleeps, as the kernel's time-outs do (CLOCK_MONOTONIC). */
  steady(): number;
  onOpenFailed?(): void;
  /** An answer has moved the horizon: called before the guard is opened by it. */
  onHorizon?(horizon: Horizon): void;
  /** True: the horizon has passed without an answer. False: an answer came after all. In turns, and each once. */
  onFence?(isFenced: boolean): void;
}>;

/** What a former agent has left, as it was found at the start. */
export type FormerGuard = Readonly<{
  /** For how long the guard in the kernel was open, at `foundAt` or later (milliseconds, as `now` tells them). */
  openForMs: number;
  foundAt: number;
  /** Up to when the server had let the machine use what it has; undefined where nobody wrote that down. */
  horizon: Horizon | undefined;
}>;

/** /proc/uptime counts hundredths of a second, rounded down: what passed may be this much more than it says. */
const clockGrain_ms = 10;
/** How long a machine that wakes may send by a guard that should have shut while it slept. */
const look_for_sleep_ms = 100;
/** Two clocks that are read one after the other, one of them coarse, differ by so much without any sleep. */
const sleep_min_ms = 50;
const attempt_min_ms = 200;
/** Whoever shut it for the machine to sleep may never come back to open it. */
const held_shut_ms_max = 300_000;
/** How often a guard that was opened late is cut down before it is shut instead. */
const cuts_max = 4;
const pause_min_ms = 100;

/**
 * Keeps the guard open while the server answers. The guard itself hangs on a timeout in the kernel, so nobody has to be
 * there to shut it; all that this loop can do is to renew that timeout, and it does so for answered keepalives only, up
 * to the horizon that the server counts with: fence_s from when the keepalive was sent.
 *
 * The kernel's timeout stands while the machine sleeps, the horizon does not: a machine that wakes has its guard shut, or
 * its timeout cut down to what is left, as soon as somebody runs.
 */
export class GuardKeeper {
  readonly #parts: GuardKeeperParts;
  #fence_s: number;
  /** So long an agent that starts may take until it is answered, before what it found is given up. */
  readonly #patience_ms: number;
  #horizonAt = -Infinity;
  #told: 'open' | 'shut' | undefined;
  #lastAnswerAt: number | undefined;
  #problem: string | null = null;
  /** By how much the clock that goes on in sleep was ahead when the guard was opened last. */
  #aheadMs: number | undefined;
  /** Tells when the horizon passes, whatever the next keepalive is doing just then. */
  #horizon: NodeJS.Timeout | undefined;
  /** From then on nothing may be begun, and what there is ends; undefined before `run`. */
  #fenceAt: number | undefined;
  #isFenced = false;
  readonly #former: FormerGuard | undefined;
  /** The kernel's time-out reaches past the former horizon: the machine slept, or somebody set it. */
  readonly #reachesTooFar: boolean;
  /** The server is away, so a former horizon is gone by to the instant. */
  #isUnheard = false;
  /** Until then it is open by what a former agent was answered: this one has neither renewed it nor shut it. */
  #inheritedUntil = -Infinity;
  /** Until then it stays shut, whatever is answered. */
  #heldShutUntil = -Infinity;
  readonly #bell = new Bell();

  /** `fence_s`: what the horizon is taken to be before anybody has said. */
  constructor(parts: GuardKeeperParts, fence_s: number, former?: FormerGuard) {
    this.#parts = parts;
    this.#fence_s = former?.horizon?.fence_s ?? fence_s;
    this.#patience_ms = Math.max(fence_s, this.#fence_s) * 1_000;
    this.#former = former;
    const until = former && former.openForMs > 0 ? former.foundAt + former.openForMs : -Infinity;
    const { at_ms: horizonAt = Infinity } = former?.horizon ?? {};
    this.#reachesTooFar = until > horizonAt + sleep_min_ms;
    // For good, by nobody's answer: the first look at the host puts an end to it.
    if (until === -Infinity || until === Infinity || this.#reachesTooFar) return;
    this.#inheritedUntil = Math.min(until, horizonAt);
    this.#aheadMs = this.#ahead();
  }

  /**
   * To be called before anything else is done on the host. A guard that reaches past what a former agent was granted is shut: the
   * kernel's time-outs stand while the machine sleeps, and nobody was there to cut this one down.
   */
  begin(): void {
    if (!this.#reachesTooFar) return;
    this.#parts.log.warn('the guard was left open past the horizon that the server had granted: shutting it');
    this.#shut();
  }

  /**
   * Whether the horizon that a former agent was granted has passed, and nobody has granted another: what the machine had may be
   * another's by now, and nothing is to go on before the server was heard.
   */
  get isOverdue(): boolean {
    const horizon = this.#former?.horizon;
    return this.#lastAnswerAt === undefined && horizon !== undefined && this.#parts.now() >= horizon.at_ms;
  }

  /**
   * The server is away. An agent that it would answer has the time for that, from its start, before what it found is given up, so that
   * a restart alone ends no flow; this one has what is left of the former horizon, and no more.
   */
  expectNoAnswer(): void {
    if (this.#lastAnswerAt !== undefined || this.#former?.horizon === undefined) return;
    this.#isUnheard = true;
    this.#awaitFirstAnswer();
    this.#lookAtHorizon();
  }

  /** The horizon, as the server said last. */
  get fence_s(): number {
    return this.#fence_s;
  }

  /** Milliseconds for which the guard stays open if no keepalive is answered any more; 0 when it is shut. */
  get openForMs(): number {
    return Math.max(this.#promisedMs, this.#inheritedUntil - this.#parts.now());
  }

  /** By this agent's own answers. */
  get #promisedMs(): number {
    return Math.max(0, this.#horizonAt - this.#parts.now());
  }

  get isOpen(): boolean {
    return this.openForMs > 0;
  }

  /** Whether the horizon has passed without an answer: what this machine has may be another's by now. */
  get isFenced(): boolean {
    return this.#isFenced;
  }

  /** Milliseconds since a keepalive was last answered; undefined when none was. */
  get answeredMsAgo(): number | undefined {
    return this.#lastAnswerAt === undefined ? undefined : this.#parts.now() - this.#lastAnswerAt;
  }

  /** Why the last keepalive was not answered, as the server or the network says; null when it was. */
  get problem(): string | null {
    return this.#isHeldShut ? 'it was shut for the machine to sleep, by "fishery agent shut"' : this.#problem;
  }

  get #isHeldShut(): boolean {
    return this.#parts.now() < this.#heldShutUntil;
  }

  /**
   * The machine is about to sleep: shuts it, and keeps it shut until `letOpen`, or for five minutes at most, sleep included.
   * Keepalives go on: what the machine has stays its own for as long as they are answered.
   */
  holdShut(): void {
    this.#heldShutUntil = this.#parts.now() + held_shut_ms_max;
    this.#horizonAt = -Infinity;
    this.#shut();
    this.#tell();
  }

  /** It may be open again, from the next answer on, for which the server is asked at once. */
  letOpen(): void {
    this.#heldShutUntil = -Infinity;
    this.#bell.ring();
  }

  /** The table was made from nothing, or somebody set the guard: it is as this agent has promised, and what it inherited is gone. */
  mend(): void {
    this.#inheritedUntil = -Infinity;
    if (this.#promisedMs > 0) this.reopen();
    else this.#parts.shut();
    if (this.#told !== undefined) this.#tell();
  }

  #shut(): void {
    this.#inheritedUntil = -Infinity;
    this.#parts.shut();
  }

  /**
   * After the table was made anew: what was promised for it still holds, and no longer. What is left is handed to the kernel
   * as a time from now, and this process may be stopped for any time before the kernel hears it: so the clock is read again
   * afterwards, and a guard that may reach past the horizon is cut down, or shut when it cannot be.
   */
  reopen(): void {
    const { open, now, log } = this.#parts;
    let margin_ms = 0;
    for (let cuts = 0; cuts <= cuts_max; cuts++) {
      this.#aheadMs = this.#ahead();
      const before = now();
      const remaining = this.#horizonAt - before;
      const left = Math.floor(remaining - Math.min(margin_ms, Math.max(0, remaining / 2)));
      if (left < 1) {
        if (cuts > 0) break;
        return;
      }
      open(left);
      // The kernel goes by that now.
      this.#inheritedUntil = -Infinity;
      const after = now();
      if (after + left <= this.#horizonAt + clockGrain_ms) return;
      // A slow machine must get through as well: so long, and more, is taken for the way to the kernel.
      margin_ms = 2 * (after - before);
      log.warn(`the guard was opened ${Math.round(after - before)} ms late: cutting it down to the horizon`);
    }
    this.#horizonAt = -Infinity;
    this.#shut();
  }

  /**
   * Sends keepalives until `signal` aborts, from when `begun` resolves. It does not shut the guard then: that is for the caller
   * to decide. Who has had no answer yet counts from its own start, or up to the horizon of a former agent where that is later: what
   * it found is given up then. The guard in the kernel has shut by that horizon all the same.
   */
  async run(signal: AbortSignal, begun: Promise<unknown> = Promise.resolve()): Promise<void> {
    if (!this.#isFenced) this.#awaitFirstAnswer();
    if (this.isOpen) this.#horizon = setTimeout(() => this.#tell(), this.openForMs + clockGrain_ms);
    const watch = setInterval(() => this.#look(), look_for_sleep_ms);
    try {
      await begun;
      this.#isUnheard = false;
      if (!this.#isFenced) this.#awaitFirstAnswer();
      while (!isOver(signal)) {
        const pauseMs = await this.#once(signal);
        this.#tell();
        await this.#bell.heard(signal, pauseMs);
      }
    } finally {
      clearInterval(watch);
      clearTimeout(this.#horizon);
    }
  }

  #awaitFirstAnswer(): void {
    const { horizon, openForMs = 0 } = this.#former ?? {};
    const now = this.#parts.now();
    if (horizon) this.#fenceAt = this.#isUnheard ? horizon.at_ms : Math.max(horizon.at_ms, now + this.#patience_ms);
    else this.#fenceAt = now + Math.max(this.#patience_ms, Number.isFinite(openForMs) ? openForMs : 0);
  }

  #look(): void {
    this.#lookForSleep();
    this.#lookAtHorizon();
  }

  #lookAtHorizon(): void {
    if (this.#isFenced || this.#fenceAt === undefined || this.#parts.now() < this.#fenceAt) return;
    this.#isFenced = true;
    this.#parts.onFence?.(true);
  }

  #ahead(): number {
    return this.#parts.now() - this.#parts.steady();
  }

  #lookForSleep(): void {
    if (this.#aheadMs === undefined) return;
    const sleptMs = this.#ahead() - this.#aheadMs;
    if (sleptMs < sleep_min_ms) return;
    this.#parts.log.warn(`the machine slept for ${Math.round(sleptMs)} ms`);
    // What was inherited stood still with the kernel's clock: nobody knows by how much it is too long.
    if (this.#promisedMs >= 1) this.#open();
    else {
      this.#aheadMs = this.#ahead();
      this.#shut();
      this.#tell();
    }
  }

  /** One keepalive; returns how long to wait for the next. */
  async #once(signal: AbortSignal): Promise<number> {
    const { send, now, log } = this.#parts;
    const sentAt = now();
    const everyMs = (this.#fence_s * 1_000) / 3;
    try {
      const answer = await send(Math.max(attempt_min_ms, everyMs), signal);
      // Also when nobody had the time to see it pass.
      this.#lookAtHorizon();
      this.#fence_s = answer.fence_s;
      this.#lastAnswerAt = now();
      this.#problem = null;
      const horizonAt = sentAt + answer.fence_s * 1_000 - clockGrain_ms;
      if (horizonAt > now()) {
        this.#parts.onHorizon?.({ at_ms: horizonAt, fence_s: answer.fence_s });
        if (!this.#isHeldShut) this.#horizonAt = horizonAt;
        this.#fenceAt = horizonAt;
        clearTimeout(this.#horizon);
        this.#horizon = setTimeout(() => this.#tell(), this.openForMs + clockGrain_ms);
        this.#open();
        if (this.#isFenced) {
          this.#isFenced = false;
          this.#parts.onFence?.(false);
        }
      } else log.warn(`a keepalive was answered after ${Math.round(now() - sentAt)} ms, too late to open the guard`);
      return Math.max(pause_min_ms, (answer.fence_s * 1_000) / 3 - (now() - sentAt));
    } catch (error) {
      if (isOver(signal)) return 0;
      this.#problem = messageOf(error);
      log.warn({ open_for_ms: Math.round(this.openForMs) }, `keepalive not answered: ${this.#problem}`);
      return Math.max(pause_min_ms, Math.min(1_000, everyMs / 4));
    }
  }

  #open(): void {
    try {
      this.reopen();
    } catch (error) {
      this.#parts.log.error(`the guard could not be opened: ${messageOf(error)}`);
      this.#parts.onOpenFailed?.();
    }
  }

  #tell(): void {
    this.#lookAtHorizon();
    const state = this.isOpen ? 'open' : 'shut';
    if (state === this.#told) return;
    const { log } = this.#parts;
    if (state === 'open') log.info(`the guard is open, for ${Math.round(this.openForMs)} ms unless renewed`);
    else
      log.error(
        this.#isHeldShut
          ? 'the guard is shut for the machine to sleep'
          : this.#told === undefined
            ? 'the guard is shut until the server answers a keepalive: nothing leaves with an address of the pools'
            : `the guard is SHUT: no keepalive was answered for ${this.#fence_s} s, nothing leaves with an address of the pools`,
      );
    this.#told = state;
  }
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
