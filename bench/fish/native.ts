import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const source = (name: string): string => fileURLToPath(new URL(`native/${name}.c`, import.meta.url));

/** Compiles a program of `native/` into a folder: its path, or why that cannot be, in one line. */
export function compile(name: 'load' | 'loop', folder: string): Readonly<{ path: string } | { problem: string }> {
  const path = join(folder, name);
  const done = spawnSync('cc', ['-O2', '-o', path, source(name)], { encoding: 'utf8' });
  if (done.error) return { problem: `a C compiler (cc) is needed: ${done.error.message}` };
  if (done.status !== 0) return { problem: `${name}.c does not compile: ${done.stderr.trim().split('\n').at(-1)}` };
  return { path };
}
