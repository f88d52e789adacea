import { spawn, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { eventually } from './agent-lab.ts';
import type { PeerRequest, PeerState } from './tcp-peer-process.ts';

const script = fileURLToPath(new URL('./tcp-peer-process.ts', import.meta.url));

/** A process in a namespace that is one end of TCP connections: see tcp-peer-process.ts. It ends with the namespace. */
export class TcpPeer {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, (value: unknown) => void>();
  #calls = 0;

  private constructor(child: ChildProcess) {
    this.#child = child;
    child.on('message', (message) => {
      const { id, value } = message as { id: number; value: unknown };
      this.#waiting.get(id)?.(value);
      this.#waiting.delete(id);
    });
  }

  static async start(namespace: string): Promise<TcpPeer> {
    const child = spawn('ip', ['netns', 'exec', namespace, process.execPath, script], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    const peer = new TcpPeer(child);
    await new Promise((resolve) => peer.#waiting.set(0, resolve));
    return peer;
  }

  async listen(on: string, port: number, reads = true): Promise<void> {
    await this.#ask({ do: 'listen', on, port, reads });
  }

  /** The connection's number, before it is known what becomes of it. */
  async connect(to: string, port: number): Promise<PeerSocket> {
    return this.#socket((await this.#ask({ do: 'connect', to, port })) as number);
  }

  /** The next connection that it accepts, or has accepted since this was asked last. */
  async next(): Promise<PeerSocket> {
    const number = await eventually(
      async () => ((await this.#ask({ do: 'accepted' })) as number[])[this.#taken],
      () => 'nobody connects',
    );
    this.#taken++;
    return this.#socket(number);
  }
  #taken = 0;

  #socket(number: number): PeerSocket {
    return new PeerSocket(number, (request) => this.#ask(request));
  }

  #ask(request: PeerRequest): Promise<unknown> {
    const id = ++this.#calls;
    return new Promise((resolve) => {
      this.#waiting.set(id, resolve);
      this.#child.send({ id, request });
    });
  }
}

export class PeerSocket {
  readonly #number: number;
  readonly #ask: (request: PeerRequest) => Promise<unknown>;

  constructor(number: number, ask: (request: PeerRequest) => Promise<unknown>) {
    this.#number = number;
    this.#ask = ask;
  }

  async tell(): Promise<PeerState> {
    return (await this.#ask({ do: 'tell', socket: this.#number })) as PeerState;
  }

  /** Waits until it is so. */
  async until(isSo: (state: PeerState) => boolean, what: string): Promise<PeerState> {
    let last: PeerState | undefined;
    return eventually(
      async () => {
        last = await this.tell();
        return isSo(last) ? last : undefined;
      },
      () => `${what}: ${JSON.stringify(last)}`,
    );
  }

  async write(what: string | number): Promise<void> {
    await this.#ask({
      do: 'write',
      socket: this.#number,
      ...(typeof what === 'string' ? { text: what } : { bytes: what }),
    });
  }

  async act(what: 'end' | 'reset' | 'read' | 'stopReading'): Promise<void> {
    await this.#ask({ do: what, socket: this.#number });
  }
}
