/**
 * Every open event stream, so that they can be counted, bounded, and ended: all of them at a shutdown, those of a token
 * when it is revoked.
 */
export class Watchers {
  readonly #max: number;
  readonly #open = new Map<AbortController, Readonly<{ token: number }>>();

  constructor(options: Readonly<{ watchers_max: number }>) {
    this.#max = options.watchers_max;
  }

  get size(): number {
    return this.#open.size;
  }

  /** Undefined when there are as many as there may be. Call `close` when the stream is over. */
  open(token: number): Readonly<{ signal: AbortSignal; end: () => void; close: () => void }> | undefined {
    if (this.#open.size >= this.#max) return undefined;
    const controller = new AbortController();
    this.#open.set(controller, { token });
    return {
      signal: controller.signal,
      end: () => controller.abort(),
      close: () => {
        this.#open.delete(controller);
        controller.abort();
      },
    };
  }

  endOf(token: number): void {
    for (const [controller, watcher] of this.#open) if (watcher.token === token) controller.abort();
  }

  endAll(): void {
    for (const controller of this.#open.keys()) controller.abort();
  }
}
