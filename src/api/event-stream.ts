import { once } from 'node:events';
import type { FastifyReply } from 'fastify';

/** One event of a stream. `id` is what a client sends back as Last-Event-ID. */
export type StreamEvent = Readonly<{ event: string; data: unknown; id?: string }>;

/**
 * One client's event stream with backpressure: what the client does not read is not written, so that it costs one socket
 * buffer and no more. A client that reads nothing for `stall_ms` is cut off.
 */
export class EventStream {
  readonly #reply: FastifyReply;
  readonly #stallMs: number;

  constructor(reply: FastifyReply, options: Readonly<{ stall_ms: number }>) {
    this.#reply = reply;
    this.#stallMs = options.stall_ms;
  }

  get isOpen(): boolean {
    return this.#reply.sse.isConnected;
  }

  /** Whether the client is behind: its socket buffer is full. */
  get isFull(): boolean {
    return this.#reply.raw.writableNeedDrain;
  }

  /** Writes now, if the client keeps up; false when it does not or is gone. */
  offer(event: StreamEvent): boolean {
    if (!this.isOpen || this.isFull) return false;
    // The plugin's promise waits for the client, and for ever when it goes away; `send` below waits with an end.
    this.#reply.sse.send({ ...event }).catch((cause: unknown) => this.#reply.log.debug({ err: cause }, 'stream ended'));
    return true;
  }

  /** Writes when the client is ready for it; false when it is gone or was cut off. */
  async send(event: StreamEvent): Promise<boolean> {
    if (this.isOpen && this.isFull) await this.#drained();
    return this.offer(event);
  }

  async #drained(): Promise<void> {
    const { raw } = this.#reply;
    const waiting = new AbortController();
    const timer = setTimeout(() => raw.destroy(), this.#stallMs);
    try {
      // Whichever comes first; the other listener goes with the signal.
      await Promise.race([
        once(raw, 'drain', { signal: waiting.signal }),
        once(raw, 'close', { signal: waiting.signal }),
      ]);
    } finally {
      clearTimeout(timer);
      waiting.abort();
    }
  }
}
