import { request } from 'node:http';
import { join } from 'node:path';
import { err, ok, type Result } from '../../net/result.ts';
import { callTool } from '../linux/commands.ts';
import { HostProblem } from '../host/host.ts';
import { tableName } from '../host/ruleset.ts';
import { socketName } from '../status/status-server.ts';

/** An agent that is stuck must not keep the machine from going to sleep. */
const answer_timeout_ms = 5_000;

/** Whoever takes the guard's element away from the kernel; `missing` when there was none, or no table. */
export type ShutInKernel = () => Promise<Result<'shut' | 'missing', string>>;

/**
 * Shuts the guard before the machine sleeps, or opens it again afterwards: by the agent, which would open it with the next
 * keepalive otherwise, or, where no agent answers, in the kernel. One line for people.
 */
export async function changeGuard(
  what: 'shut' | 'open',
  stateDir: string,
  shutInKernel: ShutInKernel = byNft,
): Promise<Result<string, string>> {
  const asked = await ask(join(stateDir, socketName), `/guard/${what}`);
  if (asked.ok) return asked;
  if (what === 'open') return err(`${asked.error}; it opens the guard with the next keepalive that the server answers`);
  // Whatever is wrong with the agent: the time-out of the element stands while the machine sleeps.
  const shut = await shutInKernel();
  if (!shut.ok) return err(`${asked.error}, and the guard cannot be shut: ${shut.error}`);
  return ok(`${asked.error}; the guard ${shut.value === 'shut' ? 'is shut' : 'was not open'}`);
}

function ask(socketPath: string, path: string): Promise<Result<string, string>> {
  const { promise, resolve } = Promise.withResolvers<Result<string, string>>();
  const call = request({ socketPath, path, method: 'POST', timeout: answer_timeout_ms }, (response) => {
    let text = '';
    response.on('data', (chunk: Buffer) => (text += chunk.toString()));
    response.on('end', () =>
      resolve(response.statusCode === 200 ? ok(text.trim()) : err(`the agent answered: ${text.trim()}`)),
    );
  });
  call.on('timeout', () => call.destroy(new Error(`not within ${answer_timeout_ms} ms`)));
  call.on('error', (error) => resolve(err(`no agent answers at ${socketPath} (${error.message})`)));
  call.end();
  return promise;
}

async function byNft(): Promise<Result<'shut' | 'missing', string>> {
  try {
    await callTool('nft', ['delete', 'element', 'inet', tableName, 'alive', '{ 0 }']);
    return ok('shut');
  } catch (error) {
    if (!(error instanceof HostProblem)) throw error;
    return error.message.includes('No such file or directory') ? ok('missing') : err(error.message);
  }
}
