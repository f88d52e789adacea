import type { CommandEntry } from './command.ts';

/** Every subcommand of `fishery`, in the order of the help. A new one is one line here and one file in commands/. */
export const commands: readonly CommandEntry[] = [
  {
    name: 'server',
    summary: 'Run the control plane',
    load: async () => (await import('./commands/server.ts')).command,
  },
  {
    name: 'agent',
    summary: 'Make the leases of this machine true in its kernel, or put the host back as it was',
    load: async () => (await import('./commands/agent.ts')).command,
  },
  {
    name: 'hold',
    summary: 'Run a program with leased ports, and give them back when it ends',
    load: async () => (await import('./commands/hold.ts')).command,
  },
  {
    name: 'version',
    summary: 'Print the version of Fishery and of its runtime',
    load: async () => (await import('./commands/version.ts')).command,
  },
];
