import { spawnSync } from 'node:child_process';
import type { TestProject } from 'vitest/node';

declare module 'vitest' {
  interface ProvidedContext {
    namespaceRun: number;
  }
}

/** See namespaces.ts: what the kernel tests of a run that is over left behind, processes included, is cleared away. */
export function setup(project: TestProject): void {
  for (const { name, run } of namespacesOfRuns()) if (!isAlive(run)) remove(name);
  project.provide('namespaceRun', process.pid);
}

/** Whatever a test that failed half-way did not close. */
export function teardown(): void {
  for (const { name, run } of namespacesOfRuns()) if (run === process.pid) remove(name);
}

function namespacesOfRuns(): readonly Readonly<{ name: string; run: number }>[] {
  const listed = spawnSync('ip', ['netns', 'list'], { encoding: 'utf8' }).stdout;
  return listed.split('\n').flatMap((line) => {
    const [name = ''] = line.split(' ', 1);
    const run = /^[a-z][a-z0-9-]*\.(\d+)(?:-[a-z]+)?$/.exec(name)?.[1];
    return run === undefined ? [] : [{ name, run: Number(run) }];
  });
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

function remove(namespace: string): void {
  const pids = spawnSync('ip', ['netns', 'pids', namespace], { encoding: 'utf8' }).stdout;
  for (const pid of pids.split('\n').filter(Boolean)) {
    try {
      process.kill(Number(pid), 'SIGKILL');
    } catch {
      // It ended by itself meanwhile.
    }
  }
  spawnSync('ip', ['netns', 'del', namespace], { stdio: 'ignore' });
}
