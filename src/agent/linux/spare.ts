import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** What this host has to spare for sockets: bytes of memory, and open files of the whole system (fs.file-max). */
export type Spare = Readonly<{ memory_bytes: number; files: number }>;

export const spareOfHost = (): Spare => ({ memory_bytes: memory(), files: files() });

const read = (path: string): string | undefined => {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
};

/** What is available by the kernel's own estimate, or what the control groups of this process leave, if that is less. */
function memory(): number {
  const available = /^MemAvailable:\s+(\d+) kB$/m.exec(read('/proc/meminfo') ?? '')?.[1];
  return Math.min(available === undefined ? Infinity : Number(available) * 1_024, ...controlGroups());
}

function* controlGroups(root = '/sys/fs/cgroup'): Generator<number, void, void> {
  const own = /^0::(\/.*)$/m.exec(read('/proc/self/cgroup') ?? '')?.[1];
  if (own === undefined) return;
  for (let group = own; ; group = dirname(group)) {
    // `max` is not a number, and nor is a file that is not there.
    const [most, used] = ['memory.max', 'memory.current'].map((file) => Number(read(join(root, group, file)) ?? NaN));
    const left = (most ?? NaN) - (used ?? NaN);
    if (!Number.isNaN(left)) yield Math.max(0, left);
    if (group === '/') return;
  }
}

/** `allocated unused max`; the sum of the first two counts. */
function files(): number {
  const [allocated = 0, , most = Infinity] = (read('/proc/sys/fs/file-nr') ?? '').trim().split(/\s+/).map(Number);
  return Math.max(0, most - allocated);
}
