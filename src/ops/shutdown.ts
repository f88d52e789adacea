/** Where a shutdown gets its signals from, and how it ends a process that does not want to end. */
export type ShutdownHost = {
  on(signal: 'SIGINT' | 'SIGTERM', listener: () => void): unknown;
  off(signal: 'SIGINT' | 'SIGTERM', listener: () => void): unknown;
  exit(code: number): void;
};

export type ShutdownOptions = Readonly<{
  /** All closers together get this long; what is left then is given up and named. */
  deadline_ms: number;
  /**
   * A second signal this soon after the first is the same one: a terminal sends Ctrl-C to the whole process group, and
   * npm and the launcher each pass it on as well.
   */
  repeat_ignored_ms?: number;
  log?: Readonly<{ info(text: string): void; error(text: string): void }>;
  host?: ShutdownHost;
}>;

type Closer = Readonly<{ name: string; close: () => Promise<void> | void }>;

/**
 * The orderly end of a long-running command. Parts register how they are closed as they are opened; the first SIGTERM
 * or SIGINT (or `begin`) closes them one after the other, the last opened first, because later parts lean on earlier
 * ones. A second signal ends the process at once, with code 1.
 *
 * ```ts
 * const shutdown = new Shutdown({ deadline_ms: 10_000 });
 * const store = openStore();
 * shutdown.register('store', () => store.close());
 * …
 * return await shutdown.finished; // the exit code
 * ```
 */
export class Shutdown {
  /** Exit code: 0 when everything closed in time, 1 when something failed or had to be given up. */
  readonly finished: Promise<0 | 1>;
  readonly #options: Required<ShutdownOptions>;
  readonly #closers: Closer[] = [];
  readonly #begun = new AbortController();
  readonly #resolve: (code: 0 | 1) => void;
  #ignoreUntil_ms = 0;
  #code: 0 | 1 = 0;

  constructor(options: ShutdownOptions) {
    this.#options = { repeat_ignored_ms: 500, log: console, host: process, ...options };
    const { promise, resolve } = Promise.withResolvers<0 | 1>();
    this.finished = promise;
    this.#resolve = resolve;
    this.#options.host.on('SIGTERM', this.#onSigterm);
    this.#options.host.on('SIGINT', this.#onSigint);
  }

  /** Aborted when the end begins: for waits and loops that should stop by themselves. */
  get signal(): AbortSignal {
    return this.#begun.signal;
  }

  /** Throws once the end has begun: whoever opens something then would leave it open. */
  register(name: string, close: () => Promise<void> | void): void {
    if (this.signal.aborted) throw new Error(`"${name}" was opened after the shutdown had begun`);
    this.#closers.push({ name, close });
  }

  /**
   * Begins the end without a signal. Calling it again changes nothing, but for the code: with 1, what ends is a failure,
   * however well it closes, and whoever keeps the process running should start it again.
   */
  begin(reason: string, code: 0 | 1 = 0): Promise<0 | 1> {
    if (code === 1) this.#code = 1;
    if (!this.signal.aborted) {
      this.#ignoreUntil_ms = performance.now() + this.#options.repeat_ignored_ms;
      this.#options.log.info(`shutting down: ${reason}`);
      this.#begun.abort(new Error(reason));
      void this.#closeAll();
    }
    return this.finished;
  }

  readonly #onSigterm = () => this.#onSignal('SIGTERM');
  readonly #onSigint = () => this.#onSignal('SIGINT');

  #onSignal(signal: string): void {
    if (!this.signal.aborted) void this.begin(signal);
    else if (performance.now() >= this.#ignoreUntil_ms) {
      this.#options.log.error(`${signal} again: ending at once`);
      this.#options.host.exit(1);
    }
  }

  async #closeAll(): Promise<void> {
    const { promise: deadline, resolve: giveUp } = Promise.withResolvers<'late'>();
    const timer = setTimeout(() => giveUp('late'), this.#options.deadline_ms);
    for (let closer = this.#closers.pop(); closer; closer = this.#closers.pop()) {
      const { name, close } = closer;
      try {
        // Wrapped, so that a closer that throws at once is treated like one that rejects.
        const outcome = await Promise.race([(async () => close())(), deadline]);
        if (outcome !== 'late') continue;
        const left = [name, ...this.#closers.map((other) => other.name).reverse()];
        this.#options.log.error(`not closed within ${this.#options.deadline_ms} ms: ${left.join(', ')}`);
        this.#code = 1;
        break;
      } catch (cause) {
        this.#options.log.error(`closing ${name} failed: ${cause instanceof Error ? cause.message : String(cause)}`);
        this.#code = 1;
      }
    }
    clearTimeout(timer);
    this.#options.host.off('SIGTERM', this.#onSigterm);
    this.#options.host.off('SIGINT', this.#onSigint);
    this.#resolve(this.#code);
  }
}
