import { spawn, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';

const program = fileURLToPath(new URL('../../src/bin/fishery.ts', import.meta.url));

/** One `fishery server` process. */
export class ServerProcess {
  readonly child: ChildProcess;
  readonly ended: Promise<number | null>;
  out = '';
  err = '';

  constructor(args: readonly string[], env: Readonly<Record<string, string>> = {}) {
    this.child = spawn(process.execPath, [program, 'server', ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...env },
    });
    this.child.stdout?.on('data', (data: Buffer) => (this.out += data.toString()));
    this.child.stderr?.on('data', (data: Buffer) => (this.err += data.toString()));
    this.ended = new Promise((resolve) => this.child.on('close', resolve));
  }

  /** Where it listens, once it says so. */
  async url(): Promise<string> {
    // A server under load may take long to start; one that never does is what the bound is for.
    await expect.poll(() => this.out + this.err, { timeout: 60_000 }).toMatch(/^listening +\S+$|^fishery server: /m);
    return /^listening +(\S+)$/m.exec(this.out)?.[1] ?? `it did not start: ${this.err}`;
  }
}
