import type { CommandEntry } from './command.ts';

/** What runs the server's libraries, and the kernel's, is the Node.js that they are tested with. */
const nodeMajorMin = 24;

/** Every subcommand of `fishery`, in the order of the help. A new one is one line here and one file in commands/. */
export const commands: readonly CommandEntry[] = [
  {
    name: 'server',
    summary: 'Run the control plane',
    nodeMajorMin,
    load: async () => (await import('./commands/server.ts')).command,
  },
  {
    name: 'agent',
    summary: 'Make the leases of this machine true in its kernel, or put the host back as it was',
    nodeMajorMin,
    load: async () => (await import('./commands/agent.ts')).command,
  },
  {
    name: 'hold',
    summary: 'Run a program with leased ports, and give them back when it ends',
    load: async () => (await import('./commands/hold.ts')).command,
  },
  {
    name: 'migrate',
    summary: 'Bring the tables of the database up to date, or say what is missing',
    nodeMajorMin,
    load: async () => (await import('./commands/migrate.ts')).command,
  },
  {
    name: 'check',
    summary: 'Prove that the database is whole, while servers use it',
    nodeMajorMin,
    load: async () => (await import('./commands/check.ts')).command,
  },
  {
    name: 'dump',
    summary: 'Write all of the database as lines of JSON, while servers use it',
    nodeMajorMin,
    load: async () => (await import('./commands/dump.ts')).command,
  },
  {
    name: 'restore',
    summary: 'Put a dump into an empty database, of the same or of the other kind',
    nodeMajorMin,
    load: async () => (await import('./commands/restore.ts')).command,
  },
  {
    name: 'version',
    summary: 'Print the version of Fishery and of its runtime',
    load: async () => (await import('./commands/version.ts')).command,
  },
];
