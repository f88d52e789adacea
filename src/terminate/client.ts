import { connect, type Socket } from 'node:net';
import { err, ok, type Result } from '../net/result.ts';
import { Lines, protocolVersion, type Hello, type Operation, type Operations, type Reply } from './protocol.ts';

const connect_ms_max = 5_000;
/** To configure takes as long as becoming somebody else does; questions are answered at once, or nobody waits for them. */
const answer_ms_max: Readonly<Record<Operation, number>> = {
  ...{ configure: 10_000, fence: 10_000, stop: 10_000 },
  ...{
    stats: 2_000,
    portUse: 2_000,
    search: 2_000,
    connections: 2_000,
    talkers: 2_000,
    busiest: 2_000,
    destinations: 2_000,
  },
};

/** One who talks to a terminator. It may be gone at any moment: then `gone` resolves, and what waits for an answer rejects. */
export class TerminatorClient {
  readonly hello: Hello;
  readonly gone: Promise<void>;
  readonly #socket: Socket;
  readonly #waiting = new Map<
    number,
    Readonly<{ resolve: (answer: unknown) => void; reject: (error: Error) => void }>
  >();
  #requests = 0;

  constructor(socket: Socket, hello: Hello, lines: AsyncIterable<string>) {
    this.#socket = socket;
    this.hello = hello;
    this.gone = this.#listen(lines);
  }

  async ask<Op extends Operation>(operation: Op, ask: Operations[Op]['ask']): Promise<Operations[Op]['answer']> {
    const id = ++this.#requests;
    const limit_ms = answer_ms_max[operation];
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    const late = setTimeout(() => reject(new Error(`the terminator did not answer within ${limit_ms} ms`)), limit_ms);
    this.#waiting.set(id, { resolve, reject });
    if (this.#socket.writable) this.#socket.write(`${JSON.stringify({ id, operation, ask })}\n`);
    else reject(new Error('the terminator is gone'));
    try {
      return (await promise) as Operations[Op]['answer'];
    } finally {
      clearTimeout(late);
      this.#waiting.delete(id);
    }
  }

  /** Lets it go on alone. */
  close(): void {
    this.#socket.destroy();
  }

  async #listen(lines: AsyncIterable<string>): Promise<void> {
    try {
      for await (const line of lines) {
        const reply = JSON.parse(line) as Reply;
        const waiting = this.#waiting.get(reply.id);
        if ('error' in reply) waiting?.reject(new Error(reply.error));
        else waiting?.resolve(reply.answer);
      }
    } catch {
      this.#socket.destroy();
    }
    for (const { reject } of this.#waiting.values()) reject(new Error('the terminator is gone'));
  }
}

/** The error is one line for people: nobody is there, or somebody of another version. */
export async function connectTerminator(path: string): Promise<Result<TerminatorClient, string>> {
  const socket = connect(path);
  socket.setEncoding('utf8');
  socket.setTimeout(connect_ms_max, () => socket.destroy(new Error(`no answer within ${connect_ms_max} ms`)));
  const lines = linesOf(socket);
  try {
    const first = await lines.next();
    if (first.done) return err(`no terminator answers at ${path}`);
    socket.setTimeout(0);
    const hello = JSON.parse(first.value) as Hello;
    if (hello.protocol === protocolVersion) return ok(new TerminatorClient(socket, hello, lines));
    socket.destroy();
    return err(`the terminator at ${path} is of version ${hello.version}, which speaks another language`);
  } catch (error) {
    socket.destroy();
    return err(`no terminator answers at ${path}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

async function* linesOf(socket: Socket): AsyncGenerator<string, undefined> {
  const lines = new Lines();
  for await (const piece of socket) yield* lines.take(String(piece));
}
