import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** One request as it arrived, body read and parsed. */
export type SeenRequest = Readonly<{
  method: string;
  path: string;
  query: Readonly<Record<string, string>>;
  headers: IncomingMessage['headers'];
  body: unknown;
}>;

export type Answer = (request: SeenRequest, response: ServerResponse) => void;

/**
 * A server that plays Fishery's part in a test of its clients: it answers whatever the test says, also what the real one
 * never would, and remembers what it was asked.
 */
export class ScriptedServer implements AsyncDisposable {
  readonly seen: SeenRequest[] = [];
  readonly #server: Server;
  #answer: Answer;

  private constructor(answer: Answer) {
    this.#answer = answer;
    this.#server = createServer((request, response) => {
      const parts: Buffer[] = [];
      request.on('data', (part: Buffer) => parts.push(part));
      request.on('end', () => {
        const url = new URL(request.url ?? '/', 'http://here');
        const text = Buffer.concat(parts).toString();
        const isJson = /^application\/json/.test(request.headers['content-type'] ?? '');
        const seen: SeenRequest = {
          method: request.method ?? '',
          path: url.pathname,
          query: Object.fromEntries(url.searchParams),
          headers: request.headers,
          body: text === '' ? undefined : isJson ? JSON.parse(text) : text,
        };
        this.seen.push(seen);
        this.#answer(seen, response);
      });
    });
  }

  static async start(answer: Answer = json({})): Promise<ScriptedServer> {
    const server = new ScriptedServer(answer);
    await new Promise<void>((done) => server.#server.listen(0, '127.0.0.1', done));
    return server;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** From now on; the script of a test often goes on after the start. */
  set answer(answer: Answer) {
    this.#answer = answer;
  }

  /** Cuts every connection as a crashed server would. */
  cut(): void {
    this.#server.closeAllConnections();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cut();
    await new Promise((done) => this.#server.close(done));
  }
}

/** Answers everything with this JSON. */
export const json =
  (body: unknown, status = 200): Answer =>
  (_request, response) => {
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  };

export const problem =
  (status: number, code: string, more: Record<string, unknown> = {}, headers: Record<string, string> = {}): Answer =>
  (_request, response) => {
    const body = { type: 'about:blank', title: code, status, code, detail: `the detail of ${code}`, ...more };
    response.writeHead(status, { 'content-type': 'application/problem+json', ...headers }).end(JSON.stringify(body));
  };

/** Drops the connection without a word. */
export const hangUp: Answer = (_request, response) => {
  response.destroy();
};

/** Never answers. */
export const silence: Answer = () => {};

/** One answer after the other; the last one stays. */
export function inTurn(...answers: readonly Answer[]): Answer {
  let next = 0;
  return (request, response) => {
    const answer = answers[Math.min(next++, answers.length - 1)];
    if (!answer) throw new Error('a script without answers');
    answer(request, response);
  };
}

export type StreamedEvent = Readonly<{ event: string; data: unknown; id?: number }>;

/** Writes server-sent events and leaves the connection open. */
export function stream(...events: StreamedEvent[]): Answer {
  return (_request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.flushHeaders();
    for (const { event, data, id } of events)
      response.write(`event: ${event}\n${id === undefined ? '' : `id: ${id}\n`}data: ${JSON.stringify(data)}\n\n`);
  };
}
