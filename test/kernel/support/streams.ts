import { spawn, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { StreamCommand, StreamReport } from './stream-process.ts';

const script = fileURLToPath(new URL('./stream-process.ts', import.meta.url));

/** One end of streams, in a namespace: see stream-process.ts. One command at a time. */
export class StreamEnd {
  readonly #child: ChildProcess;
  readonly #waiting: ((message: { value?: unknown; error?: string }) => void)[] = [];

  private constructor(child: ChildProcess) {
    this.#child = child;
    child.on('message', (message) => this.#waiting.shift()?.(message as { value?: unknown }));
  }

  static async start(namespace: string): Promise<StreamEnd> {
    const child = spawn('ip', ['netns', 'exec', namespace, process.execPath, script], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    const end = new StreamEnd(child);
    await new Promise((resolve) => end.#waiting.push(resolve));
    return end;
  }

  async tell(command: Exclude<StreamCommand, { do: 'report' }>): Promise<void> {
    await this.#ask(command);
  }

  async report(): Promise<StreamReport> {
    return (await this.#ask({ do: 'report' })) as StreamReport;
  }

  async stop(): Promise<void> {
    const ended = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.kill('SIGKILL');
    await ended;
  }

  #ask(command: StreamCommand): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.#waiting.push(({ value, error }) => {
        if (error === undefined) resolve(value);
        else reject(new Error(error));
      });
      this.#child.send(command);
    });
  }
}
