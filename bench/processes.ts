import { spawn, type ChildProcess } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const fishery = fileURLToPath(new URL('../src/bin/fishery.ts', import.meta.url));
const noDatabase = fileURLToPath(new URL('peers/no-database.ts', import.meta.url));
const brokerProcess = fileURLToPath(new URL('agent/broker-process.ts', import.meta.url));
const bareSocket = fileURLToPath(new URL('peers/bare-socket.ts', import.meta.url));
const postgres = fileURLToPath(new URL('../test/support/postgres/keeper.ts', import.meta.url));
const start_wait_ms = 60_000;
const stop_wait_ms = 30_000;

/** `http`: the event loop that talks to clients; `engine`: rules, rows and fsync; `others`: collecting garbage, compiling. */
export type ProcessorTime = Readonly<{ http: number; engine: number; others: number }>;

/** A server under test in a process of its own, which says `listening   URL` when it takes requests. */
export class ServerUnderTest implements AsyncDisposable {
  readonly url: URL;
  /** From its start to its first words, in seconds. */
  readonly startedIn: number;
  /** What it printed before it took requests. */
  readonly firstWords: string;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess, url: URL, firstWords: string, startedIn: number) {
    this.#child = child;
    this.url = url;
    this.firstWords = firstWords;
    this.startedIn = startedIn;
  }

  static fishery(settings: readonly string[]): Promise<ServerUnderTest> {
    return ServerUnderTest.#start([fishery, 'server', '--port', '0', '--log-level', 'warn', ...settings]);
  }

  static withoutDatabase(): Promise<ServerUnderTest> {
    return ServerUnderTest.#start([noDatabase]);
  }

  /** See `agent/broker-process.ts` for the arguments. Its URL is the path of its socket. */
  static broker(args: readonly string[]): Promise<ServerUnderTest> {
    return ServerUnderTest.#start([brokerProcess, ...args]);
  }

  static bareSocket(path: string): Promise<ServerUnderTest> {
    return ServerUnderTest.#start([bareSocket, path]);
  }

  /** A PostgreSQL server of its own, whose commits reach the disk; `url` is of a superuser. */
  static postgres(): Promise<ServerUnderTest> {
    return ServerUnderTest.#start([postgres, '--durable']);
  }

  static async #start(args: readonly string[]): Promise<ServerUnderTest> {
    const began = performance.now();
    const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    const timer = setTimeout(() => reject(new Error('a server did not start in time')), start_wait_ms);
    let out = '';
    child.stdout.on('data', (data: Buffer) => {
      out += data.toString();
      const url = (/^listening +(\S+)$/m.exec(out) ?? /^{"url":"([^"]+)"/m.exec(out))?.[1];
      if (url !== undefined) resolve(url);
    });
    child.once('exit', (code) => reject(new Error(`a server ended with ${code}: ${out}`)));
    try {
      return new ServerUnderTest(child, new URL(await promise), out, (performance.now() - began) / 1_000);
    } catch (error) {
      child.kill('SIGKILL');
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Resident memory in bytes, as the kernel counts it. */
  get residentBytes(): number {
    const kilobytes = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${this.#child.pid}/status`, 'utf8'))?.[1];
    return Number(kilobytes) * 1_024;
  }

  /** Processor time used so far, in microseconds, by what its threads do. A tick of the kernel is a hundredth of a second. */
  get processorTime(): ProcessorTime {
    const used = { http: 0, engine: 0, others: 0 };
    for (const thread of readdirSync(`/proc/${this.#child.pid}/task`)) {
      const [, name, ticks] = /\((.*)\) (?:\S+ ){11}(\d+ \d+) /.exec(
        readFileSync(`/proc/${this.#child.pid}/task/${thread}/stat`, 'utf8'),
      ) ?? ['', '', '0 0'];
      const [user = 0, system = 0] = ticks.split(' ').map(Number);
      used[name === 'engine' ? 'engine' : Number(thread) === this.#child.pid ? 'http' : 'others'] +=
        (user + system) * 10_000;
    }
    return used;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<undefined>();
    this.#child.once('exit', () => resolve(undefined));
    this.#child.kill('SIGTERM');
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), stop_wait_ms);
    await promise;
    clearTimeout(timer);
  }
}
