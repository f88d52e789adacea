import { spawnSync } from 'node:child_process';
import { inject } from 'vitest';

/**
 * The name of a network namespace of this run: `NAME.RUN`, where RUN is the process number of the test runner. Two runs on
 * one machine do not meet, nor do two files of one run that name their labs differently; and the next run can tell which
 * namespaces a dead one left behind.
 */
export const namespaceOf = (name: string): string => `${name}.${runOf()}`;

/** Benchmarks use the labs, too, and have no test runner. */
const runOf = (): string | number => (process.env['VITEST'] === undefined ? process.pid : inject('namespaceRun'));

/** With the processes in them, which may outlive those that started them: keepers do, and would keep the namespace alive. */
export function deleteNamespaces(...names: readonly string[]): void {
  for (const name of names) {
    for (const pid of pidsIn(name)) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It ended by itself meanwhile.
      }
    }
    spawnSync('ip', ['netns', 'del', name], { stdio: 'ignore' });
  }
}

export const pidsIn = (namespace: string): readonly number[] =>
  spawnSync('ip', ['netns', 'pids', namespace], { encoding: 'utf8' }).stdout.split('\n').filter(Boolean).map(Number);
