import { commands } from '../cli/commands.ts';
import { runProgram } from '../cli/program.ts';
import { processTerminal } from '../cli/terminal.ts';
import { packageVersion } from '../ops/version.ts';

// Whoever read the output has seen enough, like `head`: no failure, and nothing more to do.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit(0);
});

const code = await runProgram(commands, packageVersion(), process.argv.slice(2), {
  env: process.env,
  nodeVersion: process.versions.node,
  writeOut: (text) => process.stdout.write(text),
  writeErr: (text) => process.stderr.write(text),
  terminal: processTerminal(),
});
// Not process.exitCode: a handle that a command left open must not keep a finished process alive.
process.exit(code);
