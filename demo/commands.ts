import { spawnSync } from 'node:child_process';

/** Runs one of the machine's tools to its end. Throws with the tool's own words when it fails. */
export function run(command: string, ...args: readonly string[]): string {
  const done = spawnSync(command, args, { encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 });
  if (done.status !== 0)
    throw new Error(
      `${[command, ...args].join(' ')}: ${done.error?.message ?? (done.stderr.trim() || done.stdout.trim())}`,
    );
  return done.stdout;
}

/** As `run`, for commands whose failure means nothing: deleting what may not be there. */
export function tryRun(command: string, ...args: readonly string[]): string {
  return spawnSync(command, args, { encoding: 'utf8' }).stdout;
}

/** As `run`, inside a network namespace. */
export const inNamespace = (namespace: string, ...command: readonly string[]): string =>
  run('ip', 'netns', 'exec', namespace, ...command);

/** Several `ip` commands inside one namespace, one per line; blank lines are skipped. */
export function ipBatch(namespace: string, commands: string): void {
  const lines = commands.split('\n').map((line) => line.trim());
  const done = spawnSync('ip', ['-n', namespace, '-batch', '-'], { encoding: 'utf8', input: `${lines.join('\n')}\n` });
  if (done.status !== 0) throw new Error(`ip -n ${namespace}: ${done.stderr.trim()}`);
}
