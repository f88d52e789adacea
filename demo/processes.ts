import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

export type Launch = Readonly<{
  name: string;
  command: readonly string[];
  /** Another namespace than the one this process is in. */
  namespace?: string;
  /** The user id that the program's sockets have; only in this process's own namespace. */
  uid?: number;
  env?: Readonly<Record<string, string>>;
}>;

export type Ended = Readonly<{ code: number | null; signal: NodeJS.Signals | null }>;

/** A program that runs beside the demo; what it prints goes to a file. */
export class Running {
  readonly name: string;
  readonly logFile: string;
  readonly ended: Promise<Ended>;
  readonly #child: ChildProcess;

  constructor(launch: Launch, folder: string) {
    this.name = launch.name;
    this.logFile = join(folder, `${launch.name}.log`);
    const log = openSync(this.logFile, 'a');
    this.#child = spawnLaunch(launch, ['pipe', log, log]);
    closeSync(log);
    this.ended = new Promise((done) => {
      this.#child.on('exit', (code, signal) => done({ code, signal }));
      this.#child.on('error', () => done({ code: null, signal: null }));
    });
  }

  get pid(): number {
    if (this.#child.pid === undefined) throw new Error(`${this.name} could not be started`);
    return this.#child.pid;
  }

  get isRunning(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  log(): string {
    return readFileSync(this.logFile, 'utf8');
  }

  /** A line to its standard input. */
  say(line: string): void {
    this.#child.stdin?.write(`${line}\n`);
  }

  /** By its pid, and only while it is still this process's child. */
  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Waits until it has printed something that matches. Throws with its last words when it ends or takes too long. */
  async printed(pattern: RegExp, withinMs = 20_000): Promise<RegExpExecArray> {
    const end = Date.now() + withinMs;
    for (;;) {
      const match = pattern.exec(this.log());
      if (match) return match;
      if (!this.isRunning || Date.now() > end)
        throw new Error(
          `${this.name} ${this.isRunning ? `has not printed ${String(pattern)} within ${withinMs} ms` : 'ended'}; it said:\n${this.log().slice(-2_000)}`,
        );
      await sleep(50);
    }
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM', withinMs = 8_000): Promise<Ended> {
    this.signal(signal);
    const overdue = setTimeout(() => this.signal('SIGKILL'), withinMs);
    const ended = await this.ended;
    clearTimeout(overdue);
    return ended;
  }
}

export type Output = Readonly<{ code: number | null; stdout: Buffer; stderr: string }>;

/** Runs a program to its end beside everything else; killed when it takes too long (its code is then null). */
export async function finish(launch: Launch, withinMs = 30_000): Promise<Output> {
  const child = spawnLaunch(launch, ['ignore', 'pipe', 'pipe']);
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout?.on('data', (part: Buffer) => stdout.push(part));
  child.stderr?.on('data', (part: Buffer) => stderr.push(part));
  const overdue = setTimeout(() => child.kill('SIGKILL'), withinMs);
  const code = await new Promise<number | null>((done, fail) => {
    child.on('error', fail);
    child.on('close', done);
  });
  clearTimeout(overdue);
  return { code, stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr).toString() };
}

function spawnLaunch({ command, namespace, uid, env }: Launch, stdio: ('ignore' | 'pipe' | number)[]): ChildProcess {
  // `ip netns exec` becomes the program (exec), so the child's pid is the program's.
  const [program = '', ...args] = namespace === undefined ? command : ['ip', 'netns', 'exec', namespace, ...command];
  return spawn(program, args, {
    stdio,
    // The folder this was started from may be closed to other users.
    cwd: '/',
    // No setting of whoever runs the demo may reach the programs in it.
    env: { PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`, ...env },
    ...(uid === undefined ? {} : { uid, gid: uid }),
  });
}

/** Waits until `look` gives something; throws what it was waiting for when that takes too long. */
export async function until<T>(
  what: string,
  look: () => T | undefined | Promise<T | undefined>,
  withinMs = 15_000,
): Promise<T> {
  const end = Date.now() + withinMs;
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    if (Date.now() > end) throw new Error(`waited ${withinMs} ms for ${what}`);
    await sleep(100);
  }
}
