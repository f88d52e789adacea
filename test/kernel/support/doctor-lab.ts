import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { bin, type AgentLab } from './agent-lab.ts';
import type { DoctorRequest } from './doctor-process.ts';

const script = fileURLToPath(new URL('./doctor-process.ts', import.meta.url));

type Finding = Readonly<{ severity: string; what: string; mend: string; fix: string | null }>;
export type Report = Readonly<{
  worst: string;
  mended: readonly Readonly<{ command: string; problem: string | null }>[];
  checks: readonly Readonly<{ id: string; severity: string; unseen: string | null; findings: readonly Finding[] }>[];
}>;
type Reply = Readonly<{ id: number; value?: unknown; error?: string }>;

/** A doctor in the network namespace of a lab's host, in a mount namespace of its own, where /proc, /etc and /dev can be broken. */
export class DoctorLab {
  readonly lab: AgentLab;
  readonly settings: Readonly<Record<string, unknown>>;
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  #calls = 0;

  private constructor(lab: AgentLab, settings: Readonly<Record<string, unknown>>, child: ChildProcess) {
    this.lab = lab;
    this.settings = settings;
    this.#child = child;
    child.on('message', (message) => {
      const { id, value, error } = message as Reply;
      const waiting = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error === undefined) waiting?.resolve(value);
      else waiting?.reject(new Error(error));
    });
  }

  static async open(lab: AgentLab, settings: Readonly<Record<string, unknown>>): Promise<DoctorLab> {
    const child = spawn('ip', ['netns', 'exec', lab.host, process.execPath, script], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    const doctor = new DoctorLab(lab, settings, child);
    await new Promise((resolve, reject) => doctor.#waiting.set(0, { resolve, reject }));
    return doctor;
  }

  ask(request: DoctorRequest): Promise<unknown> {
    const id = ++this.#calls;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#child.send({ id, request });
    });
  }

  async examine(
    only: readonly string[],
    more: Readonly<{ settings?: object; slices?: readonly string[]; fix?: boolean }> = {},
  ): Promise<Report> {
    const settings = { ...this.settings, ...more.settings };
    const { slices = ['198.51.100.10:8192-10239'], fix = false } = more;
    return (await this.ask({ op: 'examine', only, settings, slices, fix })) as Report;
  }

  /** A shell command in the network and mount namespaces of the doctor; $WORK is a folder that goes with the lab. */
  shell(command: string, input = ''): string {
    const args = ['--target', String(this.#child.pid), '--net', '--mount', 'sh', '-ec', command];
    const done = spawnSync('nsenter', args, {
      encoding: 'utf8',
      input,
      env: { ...process.env, WORK: this.lab.folder },
    });
    if (done.status !== 0) throw new Error(`${command}: ${done.stderr || done.stdout}`);
    return done.stdout.trim();
  }

  /** The command itself, started by something that changes what it may do or see. */
  command(wrapper: readonly string[], args: readonly string[]): Readonly<{ status: number | null; report: Report }> {
    const line = [
      ...['--target', String(this.#child.pid), '--net', '--mount', ...wrapper],
      ...[process.execPath, bin, 'doctor', '--json', ...args],
    ];
    const done = spawnSync('nsenter', line, { encoding: 'utf8' });
    try {
      return { status: done.status, report: JSON.parse(done.stdout) as Report };
    } catch {
      throw new Error(`${wrapper.join(' ')}: exit code ${String(done.status)}: ${done.stderr}${done.stdout}`);
    }
  }

  async close(): Promise<void> {
    const ended = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.disconnect();
    await ended;
  }
}
