import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { err, type Result } from '../net/result.ts';
import { connectKeeper, type KeeperClient, type Patience } from './client.ts';
import { closeFd } from '../sys/descriptors.ts';
import type { KeeperProgram } from './program.ts';
import { endSilent, reachKeeper } from './silent.ts';

/** Node.js on a busy machine. */
const start_ms_max = 20_000;
/** Somebody else has just started it, and it does not listen yet. */
const tries_max = 20;
const between_tries_ms = 100;
const said_chars_max = 500;

/**
 * The keeper at a path: the one that is at work there, or one that is started now, by the first program that can be. It
 * goes on when this process is gone, in a session of its own. One that hangs is killed first, with everything in it. `programs` is
 * asked only when one has to be started. The error is one line for people. However it is with the keeper, the calling thread waits
 * no longer than `patience`.
 */
export async function ensureKeeper(
  path: string,
  programs: () => Result<readonly KeeperProgram[], string>,
  patience?: Patience,
): Promise<Result<KeeperClient, string>> {
  const reached = await reachKeeper(path);
  if (reached.is === 'answers') {
    const connected = connectKeeper(path, patience);
    if (connected.ok) return connected;
  } else if (reached.is === 'silent') {
    const problem = await endSilent(path, reached.socket);
    if (problem !== undefined) return err(problem);
  }
  const choice = programs();
  if (!choice.ok) return choice;
  const problems: string[] = [];
  for (const program of choice.value) {
    const problem = await startKeeper(path, program);
    if (problem === undefined) return connectKeeper(path, patience);
    problems.push(problem);
  }
  let refusal = `nobody listens at ${path}`;
  for (let attempt = 0; attempt < tries_max; attempt++) {
    const again = await reachKeeper(path, between_tries_ms);
    if (again.is === 'answers') {
      const connected = connectKeeper(path, patience);
      if (connected.ok) return connected;
      refusal = connected.error;
    } else if (again.is === 'silent' && again.socket !== undefined) closeFd(again.socket);
    await sleep(between_tries_ms);
  }
  return err(`${refusal}; none can be started: ${problems.join('; ')}`);
}

/** Starts a keeper (or whatever else says something once it listens at a path) and waits for that; the answer says why not. */
export function startKeeper(
  path: string,
  { command, args }: Pick<KeeperProgram, 'command' | 'args'>,
): Promise<string | undefined> {
  const child = spawn(command, [...args, path], {
    // A process group and session of its own: no signal for this process, or its terminal, is one for the keeper.
    detached: true,
    cwd: '/',
    env: {},
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const { stdout, stderr } = child;
  let said = '';
  stderr.on('data', (chunk: Buffer) => (said = (said + chunk.toString()).slice(0, said_chars_max)));
  const { promise, resolve } = Promise.withResolvers<string | undefined>();
  stdout.once('data', () => resolve(undefined));
  child.once('error', (error) => resolve(error.message));
  child.once('close', (code, signal) => resolve(said.trim() || `${command} ended with ${code ?? signal}`));
  const late = setTimeout(() => {
    resolve(`${command} is not ready after ${start_ms_max} ms`);
    child.kill('SIGKILL');
  }, start_ms_max);
  return promise.finally(() => {
    clearTimeout(late);
    // It says no more, and this process may end whenever it likes.
    stdout.destroy();
    stderr.destroy();
    child.unref();
  });
}
