import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { cgroup_depth_max } from '../../net/cgroup.ts';
import type { CgroupTable } from '../leases/ownership.ts';
import { runTool } from './commands.ts';

/** Cgroups that one walk looks at; a service has a handful below it. */
const walked_max = 10_000;
/** What was read is true for so long: a session may end with a hundred thousand leases of one holder. */
const fresh_ms = 100;

/** Where the unified hierarchy is mounted, by the text of /proc/self/mounts; undefined when it is not. */
export function cgroupMount(mounts: string): string | undefined {
  const fields = mounts.split('\n').map((line) => line.split(' '));
  const [, folder] = fields.find(([, , type]) => type === 'cgroup2') ?? [];
  // Spaces and the like are written as octal numbers.
  return folder?.replace(/\\([0-7]{3})/g, (_all, octal: string) => String.fromCharCode(parseInt(octal, 8)));
}

/** The path in /proc/PID/cgroup of the unified hierarchy, below the root of the reader's cgroup namespace. */
export const unifiedPath = (text: string): string | undefined => /^0::\/(.*)$/m.exec(text)?.[1];

/** Checked and thrown away. The cgroup is looked up in a set, because nft would look for one that is named in the rule. */
const probe = `table inet fishery_probe {
  set s {
    type cgroupsv2
  }
  chain c {
    type filter hook output priority 0
    socket cgroupv2 level 1 @s accept
  }
}
`;

/** Looks whether the kernel and nft can tell sockets by cgroup; nothing is changed. */
export async function openCgroups(): Promise<CgroupTable> {
  const mount = cgroupMount(readFileSync('/proc/self/mounts', 'utf8'));
  if (mount === undefined) return noCgroups('no cgroup2 hierarchy is mounted');
  const { code, stderr } = await runTool('nft', ['-c', '-f', '-'], probe);
  if (code === 0) return new MountedCgroups(mount);
  return noCgroups(`nftables does not know "socket cgroupv2" here (${stderr.split('\n', 1).join('')})`);
}

export const noCgroups = (problem: string): CgroupTable => ({
  problem,
  idOf: () => undefined,
  idsWithin: () => new Set(),
  pathOf: () => undefined,
});

/** The number of a cgroup is the inode of its folder. */
export class MountedCgroups implements CgroupTable {
  readonly problem = undefined;
  readonly #mount: string;
  readonly #ids = new Remembered((path) => idAt(join(this.#mount, path)));
  readonly #within = new Remembered((path) => idsBelow(join(this.#mount, path)));

  constructor(mount: string) {
    this.#mount = mount;
  }

  idOf(path: string): string | undefined {
    return this.#ids.get(path);
  }

  idsWithin(path: string): ReadonlySet<string> {
    return this.#within.get(path);
  }

  pathOf(pid: number): string | undefined {
    return attempt(() => unifiedPath(readFileSync(`/proc/${pid}/cgroup`, 'utf8')));
  }
}

/** What was read a moment ago. */
class Remembered<T> {
  readonly #read: (path: string) => T;
  readonly #values = new Map<string, T>();
  #since = -Infinity;

  constructor(read: (path: string) => T) {
    this.#read = read;
  }

  get(path: string): T {
    const now = performance.now();
    if (now - this.#since > fresh_ms) {
      this.#values.clear();
      this.#since = now;
    }
    const known = this.#values.get(path);
    if (known !== undefined) return known;
    const value = this.#read(path);
    this.#values.set(path, value);
    return value;
  }
}

const idAt = (folder: string): string | undefined =>
  attempt(() => {
    const found = statSync(folder, { bigint: true });
    return found.isDirectory() ? String(found.ino) : undefined;
  });

function idsBelow(folder: string): ReadonlySet<string> {
  const ids = new Set<string>();
  const walk = (at: string, depth: number): void => {
    const id = idAt(at);
    if (id === undefined || ids.size >= walked_max || depth > 2 * cgroup_depth_max) return;
    ids.add(id);
    for (const entry of attempt(() => readdirSync(at, { withFileTypes: true })) ?? [])
      if (entry.isDirectory()) walk(join(at, entry.name), depth + 1);
  };
  walk(folder, 0);
  return ids;
}

/** Cgroups and processes go away while one looks. */
function attempt<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENODEV' || code === 'ESRCH' || code === 'ENOTDIR') return undefined;
    throw error;
  }
}
