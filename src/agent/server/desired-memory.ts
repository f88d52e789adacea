import { appendFileSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import type { Logger } from '../../ops/logger.ts';
import { replaceFile } from '../../ops/replace-file.ts';
import { Change, Desired } from '../../wire/agent.ts';
import { DesiredMachine } from './desired.ts';
import { thisHost } from '../start/this-host.ts';

const fileName = 'desired.jsonl';

/** The first line: what the server said as a whole, and of which boot and network namespace that is. */
const Head = z.strictObject({ version: z.literal(1), host: z.string(), machine: z.string(), desired: Desired });
/** Every other: a change of it, or leases that this host has made true since. */
const Line = z.union([z.strictObject({ change: Change }), z.strictObject({ up: z.array(z.string()) })]);

/** So much of changes is behind the first line, and as much as that line is long, before it is written anew. */
const changes_bytes_min = 1 << 20;
/** Between two tries to write what could not be written. */
const retry_ms = 10_000;

export type DesiredMemoryParts = Readonly<{
  folder: string;
  machine: string;
  /** Boot and network namespace. */
  host?: string;
  log: Pick<Logger, 'info' | 'warn'>;
  /** Milliseconds, never backwards. */
  now(): number;
}>;

/**
 * What the server said last, on disk (mode 0600), for an agent that starts while the server is away: a snapshot, which is replaced
 * by renaming, and behind it every change since, appended before anything of it is made true. It is of use on the boot that it was
 * written on alone, and so need not outlive the machine: nothing is fsynced. What cannot be written is taken away as a whole,
 * because an old memory would undo what is newer than it.
 */
export class DesiredMemory {
  readonly #parts: DesiredMemoryParts;
  readonly #host: string;
  /** As the file says it, but for the lines in `#waiting`; undefined before the server has said anything to this agent. */
  #told: DesiredMachine | undefined;
  readonly #up = new Set<string>();
  #waiting: string[] = [];
  #head_bytes = 0;
  #changes_bytes = 0;
  #retryAt: number | undefined;

  constructor(parts: DesiredMemoryParts) {
    this.#parts = parts;
    this.#host = parts.host ?? thisHost();
  }

  /**
   * What a former agent of this boot was told and had made true: without the leases and slices that were still to come.
   * undefined where there is nothing that can be gone by. Never throws.
   */
  read(): Desired | undefined {
    const { folder, machine, log } = this.#parts;
    const path = join(folder, fileName);
    try {
      // The last line may have been cut off by what the agent died of: it was not acted upon.
      const [first = '', ...rest] = readFileSync(path, 'utf8').split('\n').slice(0, -1);
      const head = Head.parse(JSON.parse(first));
      if (head.host !== this.#host || head.machine !== machine) return undefined;
      const folded = new DesiredMachine(machine);
      folded.reset(head.desired);
      const up = new Set<string>();
      for (const text of rest) {
        const line = Line.parse(JSON.parse(text));
        if ('change' in line) folded.apply(line.change);
        else for (const lease of line.up) up.add(lease);
      }
      return Desired.parse(inPlace(folded, up));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
        log.warn(`${path} is of no use, the server is waited for: ${messageOf(error)}`);
      return undefined;
    }
  }

  /** The server said everything anew, and `told` is that; it goes on to change with every change. */
  reset(told: DesiredMachine): void {
    this.#told = told;
    this.#rewrite();
  }

  /** Something changed: on disk with the next `flush`. */
  note(change: Change): void {
    if (this.#told) this.#waiting.push(`${JSON.stringify({ change })}\n`);
  }

  /** These leases of the server's are in place: on disk when this returns. */
  noteUp(leases: readonly string[]): void {
    if (!this.#told || leases.length === 0) return;
    for (const lease of leases) this.#up.add(lease);
    this.#waiting.push(`${JSON.stringify({ up: leases })}\n`);
    this.flush();
  }

  /** To be called before anything that was noted is made true. Never throws. */
  flush(): void {
    if (this.#retryAt !== undefined) {
      if (this.#parts.now() >= this.#retryAt) this.#rewrite();
      return;
    }
    if (this.#waiting.length === 0) return;
    const text = this.#waiting.join('');
    this.#waiting = [];
    this.#changes_bytes += Buffer.byteLength(text);
    if (this.#changes_bytes > Math.max(changes_bytes_min, this.#head_bytes)) this.#rewrite();
    else this.#try(() => appendFileSync(join(this.#parts.folder, fileName), text, { mode: 0o600 }));
  }

  #rewrite(): void {
    if (!this.#told) return;
    const { folder, machine } = this.#parts;
    const { leases } = this.#told;
    for (const lease of this.#up) if (leases.get(lease)?.state !== 'pending') this.#up.delete(lease);
    const desired = this.#told.snapshot();
    const head = `${JSON.stringify({ version: 1, host: this.#host, machine, desired })}\n`;
    const up = this.#up.size > 0 ? `${JSON.stringify({ up: [...this.#up] })}\n` : '';
    this.#waiting = [];
    this.#head_bytes = Buffer.byteLength(head);
    this.#changes_bytes = 0;
    this.#try(() => replaceFile(folder, fileName, head + up, false));
  }

  #try(write: () => void): void {
    const { folder, log, now } = this.#parts;
    try {
      write();
      this.#retryAt = undefined;
    } catch (error) {
      this.#retryAt = now() + retry_ms;
      this.#waiting = [];
      log.warn(`what the server said cannot be remembered for a restart without it: ${messageOf(error)}`);
      forgetDesired(folder);
    }
  }
}

/** Nothing is to be as the server said any more: the host is bare. Never throws. */
export function forgetDesired(folder: string): void {
  try {
    rmSync(join(folder, fileName), { force: true });
  } catch {
    // Of a folder that is not there, or cannot be written, there is nothing to go by either.
  }
}

/** Of what was told, what was in place by then: from memory nothing is begun. */
function inPlace(told: DesiredMachine, up: ReadonlySet<string>): unknown {
  const snapshot = told.snapshot();
  const leases = snapshot.leases.flatMap((lease) => {
    if (lease.state !== 'pending') return [lease];
    return up.has(lease.id) ? [{ ...lease, state: 'active' }] : [];
  });
  const used = new Set(leases.map(({ slice }) => slice));
  return {
    ...snapshot,
    leases,
    slices: snapshot.slices.filter(({ id, state }) => state !== 'assigning' || used.has(id)),
  };
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error)).slice(0, 300);
