import { closeSync, openSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { isClockSynchronised } from '../../sys/clock.ts';
import type { BrokerFacts, ClockFacts, FileFact, Limits } from '../facts.ts';

/** What files below /proc, /etc and the agent's own folders tell. */
const isMissing = (error: unknown): boolean =>
  ['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '');

export function readOptional(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (isMissing(error)) return null;
    throw error;
  }
}

export function readFileFact(path: string): FileFact | null {
  const stat = statSync(path, { throwIfNoEntry: false });
  return stat === undefined
    ? null
    : { path, mode: stat.mode & 0o7777, uid: stat.uid, isDirectory: stat.isDirectory(), bytes: stat.size };
}

export function readBroker(
  { enabled, socket }: Readonly<{ enabled: boolean; socket: string }>,
  stateDir: string,
): BrokerFacts {
  let names: readonly string[] = [];
  try {
    names = readdirSync(stateDir);
  } catch (error) {
    if (!isMissing(error)) throw error;
  }
  const file = readFileFact(socket);
  return {
    isEnabled: enabled,
    socket,
    file: file && { ...file, isSocket: statSync(socket, { throwIfNoEntry: false })?.isSocket() === true },
    folder: readFileFact(dirname(socket)),
    hasTable: names.includes('broker'),
    lost: names
      .filter((name) => /^broker\.lost(-\d+)?$/.test(name))
      .sort()
      .map((name) => join(stateDir, name)),
  };
}

/** `agent`: the process that runs, if one does. */
export function readLimits(agent: number | undefined): Limits {
  const of = agent === undefined ? 'self' : String(agent);
  const hard = /^Max open files\s+\S+\s+(\S+)/m.exec(readFileSync(`/proc/${of}/limits`, 'utf8'))?.[1];
  const [open = '0'] = readFileSync('/proc/sys/fs/file-nr', 'utf8').split(/\s+/);
  return {
    descriptors_hard: hard === 'unlimited' ? Infinity : Number(hard),
    of: agent === undefined ? 'this process' : 'the agent',
    nr_open: Number(readFileSync('/proc/sys/fs/nr_open', 'utf8')),
    file_max: Number(readFileSync('/proc/sys/fs/file-max', 'utf8')),
    files_open: Number(open),
  };
}

export function readMemory(): Readonly<{ available_bytes: number }> {
  const kilobytes = /^MemAvailable:\s+(\d+) kB/m.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1];
  if (kilobytes === undefined) throw new Error('/proc/meminfo does not say how much memory is available');
  return { available_bytes: Number(kilobytes) * 1_024 };
}

/** Bits of linux/capability.h that are asked for. */
const capabilityBits = { CAP_NET_ADMIN: 12, CAP_NET_RAW: 13, CAP_BPF: 39 } as const;

export function readCapabilities(): ReadonlySet<string> {
  const effective = BigInt(`0x${/^CapEff:\s+(\S+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0'}`);
  return new Set(
    Object.entries(capabilityBits).flatMap(([name, bit]) => ((effective >> BigInt(bit)) & 1n ? [name] : [])),
  );
}

/** Opening it makes no device: that takes an ioctl. */
export const tryTunDevice = (): string | null => tryOpening('/dev/net/tun');

/** Opening it sets nothing. */
export const trySysctl = (): string | null => tryOpening('/proc/sys/net/ipv4/ip_local_port_range');

function tryOpening(path: string): string | null {
  try {
    closeSync(openSync(path, 'r+'));
    return null;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error);
  }
}

/** Where cgroup2 is mounted, of /proc/self/mountinfo; null for nowhere. */
export function cgroup2In(mountinfo: string): string | null {
  for (const line of mountinfo.split('\n')) {
    const [mount = '', system = ''] = line.split(' - ');
    if (system.startsWith('cgroup2 ')) return mount.split(' ')[4] ?? null;
  }
  return null;
}

export function readClock(stateDir: string): ClockFacts {
  const [uptime] = readFileSync('/proc/uptime', 'utf8').split(' ', 1);
  // hrtime is CLOCK_MONOTONIC, /proc/uptime CLOCK_BOOTTIME, to a hundredth.
  const slept = Number(uptime) - Number(process.hrtime.bigint()) / 1e9;
  return {
    isSynchronised: isClockSynchronised(),
    slept_s: Math.max(0, slept),
    stateFromFuture_s: Math.max(0, (newestIn(stateDir) - Date.now()) / 1_000),
  };
}

function newestIn(folder: string): number {
  try {
    return Math.max(
      0,
      ...readdirSync(folder).map((name) => statSync(join(folder, name), { throwIfNoEntry: false })?.mtimeMs ?? 0),
    );
  } catch (error) {
    if (isMissing(error)) return 0;
    throw error;
  }
}

export const usersIn = (passwd: string): ReadonlyMap<number, string> =>
  new Map(
    passwd.split('\n').flatMap((line) => {
      const [name = '', , uid] = line.split(':');
      return uid === undefined ? [] : [[Number(uid), name] as const];
    }),
  );

/** Sockets of keepers for this network namespace: those in /proc/net/unix listen, those that are only files do not. */
export function readKeepers(folder = '/run/fishery'): readonly Readonly<{ path: string; listens: boolean }>[] {
  const prefix = `keeper-${statSync('/proc/self/ns/net').ino}-`;
  const listening = new Set(
    readFileSync('/proc/thread-self/net/unix', 'utf8')
      .split('\n')
      .flatMap((line) => {
        const fields = line.trim().split(/\s+/);
        // Flags: SO_ACCEPTCON.
        return fields[3] === '00010000' && fields[7] !== undefined ? [fields[7]] : [];
      }),
  );
  let names: readonly string[];
  try {
    names = readdirSync(folder);
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
  return names
    .filter((name) => name.startsWith(prefix) && name.endsWith('.sock'))
    .sort()
    .map((name) => ({ path: join(folder, name), listens: listening.has(join(folder, name)) }));
}
