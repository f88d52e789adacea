import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
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
      // It ended between the looks, or is none of ours to look at.
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'ENOENT' || code === 'ESRCH' || code === 'EACCES' || code === 'EPERM') return [];
      throw error;
    }
  });
  return found
    .filter(({ pid }) => !found.some(({ parent }) => parent === pid))
    .map(({ pid, isHere, machine }) => ({ pid, isHere, machine }));
}
