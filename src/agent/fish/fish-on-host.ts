import type { Logger } from '../../ops/logger.ts';
import type { FishPort } from './fish-port.ts';

/** `hasFlows`: whether a former agent has left some. */
export type FishStarts = Readonly<{ start(): Promise<FishPort>; hasFlows(): boolean }>;

export type FishOnHostParts = Readonly<{
  /** null on a host without fish. */
  starter: FishStarts | null;
  /** There is another fish than before, or none any more: what the last one had been told is to be told again. */
  onChanged(): void;
  /** It ended by itself, and is to be started again. */
  onDied(): void;
  /** So many sockets of its flows were destroyed; with the next `begin` it takes them anew, and ends the flows that cannot have them. */
  onSocketsLost(count: number): void;
  /** Past the horizon it has no flows, not even those that it finds. */
  isFenced(): boolean;
  log: Logger;
  /** Milliseconds, never backwards. */
  now(): number;
}>;

const retry_first_ms = 100;
const retry_max_ms = 5_000;
/** Between two looks at sockets, each at no more than 253 of a keeper's. */
const look_every_ms = 250;
/** It looks at all of them when it starts, and is not to be started again and again. */
const firstLook_after_ms = 2_000;

/** Fish's life on this host: it is started, started again when it dies or lost its keeper, fenced, and stopped. */
export class FishOnHost {
  readonly #parts: FishOnHostParts;
  #port: FishPort | undefined;
  #starts = 0;
  #isStale = false;
  #retryAt = -Infinity;
  #problem: Error | undefined;
  #looking: NodeJS.Timeout | undefined;

  constructor(parts: FishOnHostParts) {
    this.#parts = parts;
  }

  /** undefined while it does not run. */
  get port(): FishPort | undefined {
    return this.#port;
  }

  /** How often it was started, or tried to be. */
  get starts(): number {
    return this.#starts;
  }

  /** For those who must have it: throws while it does not run. */
  insist(): FishPort {
    if (!this.#port) throw new Error('fish does not run');
    return this.#port;
  }

  /** The sockets of its flows were lost with their keeper: the next `begin` stops it, and its flows go on with another. */
  lostItsKeeper(): void {
    this.#isStale = true;
    this.#retryAt = -Infinity;
  }

  /** Has it run, and go by the links of this host as they are. Returns why it could not be. */
  async begin(): Promise<Error | undefined> {
    const { starter, isFenced, now } = this.#parts;
    if (this.#isStale) {
      this.#isStale = false;
      await this.stop(true);
    }
    if (!starter) return undefined;
    if (this.#port) return this.#follow(this.#port);
    if (now() < this.#retryAt) return this.#problem;
    // A fish that dies at once must not be started in a tight loop.
    this.#retryAt = now() + Math.min(retry_max_ms, retry_first_ms * 2 ** Math.min(this.#starts, 10));
    this.#starts++;
    try {
      const started = await starter.start();
      if (isFenced()) await started.fence();
      this.#isNow(started);
      this.#problem = undefined;
    } catch (error) {
      this.#problem = new Error(`fish cannot be started: ${messageOf(error)}`, { cause: error });
    }
    return this.#problem;
  }

  async #follow(port: FishPort): Promise<Error | undefined> {
    try {
      await port.followLinks();
      return undefined;
    } catch (error) {
      return new Error(`fish does not go by the links of this host: ${messageOf(error)}`, { cause: error });
    }
  }

  #isNow(started: FishPort): void {
    const { onChanged, onDied, log } = this.#parts;
    this.#port = started;
    onChanged();
    this.#lookAfter(started, firstLook_after_ms);
    void started.died.then((reason) => {
      if (this.#port !== started) return;
      this.#port = undefined;
      log.error(`fish died: ${reason}`);
      onChanged();
      onDied();
    });
  }

  #lookAfter(port: FishPort, pause_ms: number): void {
    clearTimeout(this.#looking);
    this.#looking = setTimeout(() => void this.#look(port), pause_ms).unref();
  }

  async #look(port: FishPort): Promise<void> {
    // One that dies meanwhile answers no more, and the next looks at everything first.
    const lost = await port.lostSockets().catch(() => 0);
    if (this.#port !== port || this.#isStale) return;
    if (lost === 0) {
      this.#lookAfter(port, look_every_ms);
      return;
    }
    this.#isStale = true;
    this.#retryAt = -Infinity;
    this.#parts.onSocketsLost(lost);
  }

  /**
   * Flows that a former agent has left go on at once, in the blocks that are remembered with them: what the server has to say
   * to that comes with its snapshot, and until then the guard in the kernel says it.
   */
  async goOn(): Promise<void> {
    const { starter, log } = this.#parts;
    try {
      if (!starter?.hasFlows()) return;
      const problem = await this.begin();
      if (problem) log.warn(problem.message);
      else log.info('fish goes on with the flows of a former agent');
    } catch (error) {
      log.warn(`flows of a former agent cannot be looked at: ${messageOf(error)}`);
    }
  }

  /** Past the horizon: no new flows, an end to the others, and then `letGo` of ports. Says what went wrong, and never throws. */
  async endFlows(letGo: () => void): Promise<void> {
    const { log } = this.#parts;
    try {
      const closed = (await this.#port?.fence()) ?? 0;
      log.error({ flows: closed }, "past the horizon: fish's flows have ended, and it opens no new ones");
      letGo();
    } catch (error) {
      log.warn(`past the horizon, and not all of fish's flows and ports could be let go of: ${messageOf(error)}`);
    }
  }

  /** `leave`: its flows stay, for whoever is started next. */
  async stop(leave: boolean): Promise<void> {
    const port = this.#port;
    this.#port = undefined;
    clearTimeout(this.#looking);
    await port?.stop({ leave });
  }
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
