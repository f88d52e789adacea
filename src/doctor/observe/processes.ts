import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { unifiedPath } from '../../agent/linux/cgroups.ts';
import type { AgentProcess } from '../facts.ts';

/** `node …/fishery.mjs agent --config …`, or compiled, or as TypeScript. */
export function agentArguments(argv: readonly string[]): readonly string[] | undefined {
  const at = argv.findIndex((word) => /(?:^|\/)fishery(?:\.mjs|\.js|\.ts)?$/.test(word));
  if (at < 0 || at > 8 || argv[at + 1] !== 'agent') return undefined;
  const rest = argv.slice(at + 2);
  return rest.includes('down') || rest.includes('--help') ? undefined : rest;
}

/** Every agent on this host that we can see, each once: the Node.js that only hands over to another one is left out. */
export function readAgentProcesses(): readonly AgentProcess[] {
  const here = readlinkSync('/proc/self/ns/net');
  const found = readdirSync('/proc').flatMap((entry) => {
    const pid = Number(entry);
    if (!Number.isInteger(pid)) return [];
    try {
      const argv = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
      const rest = agentArguments(argv);
      if (rest === undefined) return [];
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
      // The name in parentheses may have anything in it.
      const parent = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
      const at = rest.indexOf('--machine');
      const machine = at < 0 ? null : (rest[at + 1] ?? null);
      return [{ pid, parent, isHere: readlinkSync(`/proc/${pid}/ns/net`) === here, machine }];
    } catch (error) {
      if (isOutOfSight(error)) return [];
      throw error;
    }
  });
  return found
    .filter(({ pid }) => !found.some(({ parent }) => parent === pid))
    .map(({ pid, isHere, machine }) => ({ pid, isHere, machine }));
}

/** It ended between the looks, or is none of ours to look at. */
function isOutOfSight(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'ENOENT' || code === 'ESRCH' || code === 'EACCES' || code === 'EPERM';
}

/** `system.slice/fishery-agent.service`, or a cgroup below it: the service; undefined for what is in none. */
export const serviceOf = (cgroup: string): string | undefined =>
  cgroup.split('/').find((part) => part.endsWith('.service'));

/** By process: the service of those that are in one. */
export function readServices(pids: readonly number[]): ReadonlyMap<number, string> {
  const found = new Map<number, string>();
  for (const pid of pids) {
    try {
      const service = serviceOf(unifiedPath(readFileSync(`/proc/${pid}/cgroup`, 'utf8')) ?? '');
      if (service !== undefined) found.set(pid, service);
    } catch (error) {
      if (!isOutOfSight(error)) throw error;
    }
  }
  return found;
}
