import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

/** A server as its keeper tells of it: as a superuser, on the database `postgres`. */
export type Kept = Readonly<{ url: string; pid: number }>;

/** Starts a keeper; its servers live as long as the pipe to it is open. What it said, and how to end it. */
export async function keep(...args: readonly string[]): Promise<Readonly<{ said: string; end: () => Promise<void> }>> {
  const keeper = spawn(process.execPath, [join(import.meta.dirname, 'keeper.ts'), ...args], {
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  const exited = new Promise<void>((resolve) => keeper.on('exit', () => resolve()));
  const troubles: string[] = [];
  keeper.stderr.setEncoding('utf8').on('data', (text: string) => troubles.push(text));
  const said = await Promise.race([
    new Promise<string>((resolve) => createInterface(keeper.stdout).once('line', resolve)),
    exited.then(() => Promise.reject(new Error(`PostgreSQL did not start:\n${troubles.join('')}`))),
  ]);
  const end = async () => {
    keeper.stdin.end();
    await exited;
  };
  return { said, end };
}
