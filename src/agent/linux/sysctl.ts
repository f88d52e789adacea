import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { HostProblem } from '../host/host.ts';

const root = '/proc/sys';

/** The value without its newline; undefined when there is no such file (a device that is gone, no IPv6). */
export function readSysctl(key: string): string | undefined {
  try {
    return readFileSync(join(root, key), 'utf8').trimEnd();
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw problem('read', key, cause);
  }
}

export function writeSysctl(key: string, value: string): void {
  try {
    writeFileSync(join(root, key), value);
  } catch (cause) {
    throw problem(`set to "${value}"`, key, cause);
  }
}

const problem = (what: string, key: string, cause: unknown): HostProblem =>
  new HostProblem(`sysctl ${key} cannot be ${what}: ${cause instanceof Error ? cause.message : String(cause)}`, {
    cause,
  });
