import { commands } from '../cli/commands.ts';
import { runProgram } from '../cli/program.ts';
import { packageVersion } from '../ops/version.ts';

const code = await runProgram(commands, packageVersion(), process.argv.slice(2), {
  env: process.env,
  nodeVersion: process.versions.node,
  writeOut: (text) => process.stdout.write(text),
  writeErr: (text) => process.stderr.write(text),
});
// Not process.exitCode: a handle that a command left open must not keep a finished process alive.
process.exit(code);
