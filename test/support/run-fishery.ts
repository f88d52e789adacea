import { commands } from '../../src/cli/commands.ts';
import { runProgram } from '../../src/cli/program.ts';
import { fakeTerminal, type FakeTerminal } from './fake-terminal.ts';

export type Ran = Readonly<{ code: number; out: string; err: string }>;

/** `fishery` with these words, in this process: its exit code and what it wrote. Nothing of the developer's own settings reaches it. */
export async function runFishery(
  words: readonly string[],
  { env = {}, terminal = fakeTerminal() }: Readonly<{ env?: Record<string, string>; terminal?: FakeTerminal }> = {},
): Promise<Ran> {
  let [out, err] = ['', ''];
  const code = await runProgram(commands, '0.0.0', words, {
    env: { HOME: '/nonexistent', ...env },
    nodeVersion: process.versions.node,
    writeOut: (text) => void (out += text),
    writeErr: (text) => void (err += text),
    terminal,
  });
  return { code, out, err };
}
