import { packageVersion } from '../ops/version.ts';
import { runTerminator } from '../terminate/process.ts';

/**
 * `node terminator.ts PORT PATH`: the terminator as a process of its own, as the agent starts it where no service does: says `ready`
 * on standard output once it listens, and what is wrong on standard error.
 */
const [port, path] = process.argv.slice(2);
try {
  if (port === undefined || path === undefined) throw new Error('a port and the path of its socket are missing');
  const { finished, stop } = await runTerminator({ path, port: Number(port), version: packageVersion() });
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, stop);
  process.stdout.write('ready\n');
  await finished;
  process.exit(0);
} catch (error) {
  process.stderr.write(`terminator: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
}
