import { spawnSync } from 'node:child_process';
import { inject } from 'vitest';

/**
 * The name of a network namespace of this run: `NAME.RUN`, where RUN is the process number of the test runner. Two runs on
 * one machine do not meet, nor do two files of one run that name their labs differently; and the next run can tell which
 * namespaces a dead one left behind.
 */
export const namespaceOf = (name: string): string => `${name}.${inject('namespaceRun')}`;

export function deleteNamespaces(...names: readonly string[]): void {
  for (const name of names) spawnSync('ip', ['netns', 'del', name], { stdio: 'ignore' });
}
