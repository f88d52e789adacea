import { request, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { FastifyInstance } from 'fastify';
import { SseParser, type ServerSentEvent } from '../../src/sdk/sse.ts';

export type StreamOptions = Readonly<{
  token: string;
  from?: number;
  headers?: Readonly<Record<string, string>>;
  /** Opens the connection and reads nothing until `resume()`. */
  paused?: boolean;
}>;

/** A client of one event stream over a real socket, for a test to look into. */
export class TestStream {
  readonly events: ServerSentEvent[] = [];
  readonly response: IncomingMessage;
  /** How the stream was over: `end` when the server finished it, `cut` when the connection was torn down. */
  readonly over: Promise<'end' | 'cut'>;
  #wake: () => void = () => {};
  #isOver = false;

  constructor(response: IncomingMessage, paused: boolean) {
    this.response = response;
    const parser = new SseParser();
    const { promise, resolve } = Promise.withResolvers<'end' | 'cut'>();
    this.over = promise;
    const finish = (how: 'end' | 'cut') => {
      this.#isOver = true;
      this.#wake();
      resolve(how);
    };
    response.on('data', (chunk: Buffer) => {
      this.events.push(...parser.push(chunk));
      this.#wake();
    });
    response.on('end', () => finish('end'));
    response.on('error', () => finish('cut'));
    response.on('close', () => finish('cut'));
    if (paused) response.pause();
  }

  static open(app: FastifyInstance, machine: string, options: StreamOptions): Promise<TestStream> {
    const query = options.from === undefined ? '' : `?from=${options.from}`;
    return TestStream.openPath(app, `/v1/machines/${machine}/watch${query}`, options);
  }

  static async openPath(app: FastifyInstance, path: string, options: Omit<StreamOptions, 'from'>): Promise<TestStream> {
    const { port } = app.server.address() as AddressInfo;
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
    const call = request({
      host: '127.0.0.1',
      port,
      path,
      headers: { authorization: `Bearer ${options.token}`, accept: 'text/event-stream', ...options.headers },
    });
    call.on('response', resolve).on('error', reject).end();
    return new TestStream(await promise, options.paused ?? false);
  }

  /** Resolves when `isDone` is true of the events so far; fails when the stream is over first. */
  async until(isDone: (events: readonly ServerSentEvent[]) => boolean): Promise<void> {
    while (!isDone(this.events)) {
      if (this.#isOver) throw new Error(`the stream was over after ${this.events.length} events`);
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  named(name: string): readonly ServerSentEvent[] {
    return this.events.filter(({ event }) => event === name);
  }

  /** Revisions of the changes so far. */
  get revisions(): readonly number[] {
    return this.named('change').map(({ id }) => Number(id));
  }

  close(): void {
    this.response.destroy();
  }
}
