import { rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { err, type Result } from '../../net/result.ts';
import { makeDirectory } from '../../ops/directory.ts';
import { runFolder } from '../../keeper/place.ts';
import { startKeeper } from '../../keeper/start.ts';
import { connectTerminator, type TerminatorClient } from '../../terminate/client.ts';

/** The socket of the terminator of the network namespace of this process: root's alone, as those of the keepers are. */
export const terminatorPath = (): string => join(runFolder, `terminator-${statSync('/proc/self/ns/net').ino}.sock`);

const program = fileURLToPath(
  new URL(import.meta.url.endsWith('.ts') ? '../../bin/terminator.ts' : '../bin/terminator.js', import.meta.url),
);

/** The terminator that is at work here, or one that is started now and goes on when this process is gone. */
export async function ensureTerminator(port: number): Promise<Result<TerminatorClient, string>> {
  const path = terminatorPath();
  const there = await connectTerminator(path);
  if (there.ok) return there;
  makeDirectory(runFolder);
  const problem = await startKeeper(path, { command: process.execPath, args: [program, String(port)] });
  if (problem === undefined) return connectTerminator(path);
  // A service of its own may have been quicker.
  const since = await connectTerminator(path);
  return since.ok ? since : err(`the terminator cannot be started: ${problem}`);
}

/** Ends the terminator of this host with everything that is open in it; the lines say what was done. */
export async function endTerminator(): Promise<readonly string[]> {
  const path = terminatorPath();
  const there = await connectTerminator(path);
  if (there.ok) {
    const { pid } = there.value.hello;
    // Nothing of it may stay: one that does not answer is stopped, or stuck.
    await there.value.ask('stop', null).catch(() => process.kill(pid, 'SIGKILL'));
    await there.value.gone;
  }
  // It may not do that itself, being nobody by then.
  rmSync(path, { force: true });
  return there.ok ? [`end terminator ${there.value.hello.pid}`] : [];
}
