import type { Entry } from './command.ts';

/** What runs the server's libraries, and the kernel's, is the Node.js that they are tested with. */
const nodeMajorMin = 24;

/**
 * Everything that `fishery` can do, in the order of the help. A new command is one line here and one file in commands/;
 * a group of verbs about one kind of thing, one line and one file in verbs/.
 */
export const commands: readonly Entry[] = [
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
    name: 'doctor',
    summary: 'Find what on this host would break leases, and mend what is safe to mend',
    nodeMajorMin,
    load: async () => (await import('./commands/doctor.ts')).command,
  },
  {
    name: 'keeper',
    summary: 'Keep the descriptors of the agent while it is away',
    nodeMajorMin,
    load: async () => (await import('./commands/keeper.ts')).command,
  },
  {
    name: 'flows',
    summary: 'What goes through the packet path of this host',
    verbs: async () => (await import('./verbs/flows.ts')).verbs,
  },
  {
    name: 'trace',
    summary: 'See what fish does with the packets of a flow, and why; write them to a file',
    load: async () => (await import('./commands/trace.ts')).command,
  },
  {
    name: 'terminator',
    summary: "Carry clients' TCP connections on from leased ports, as the agent says",
    nodeMajorMin,
    load: async () => (await import('./commands/terminator.ts')).command,
  },
  {
    name: 'hold',
    summary: 'Run a program with leased ports, and give them back when it ends',
    load: async () => (await import('./commands/hold.ts')).command,
  },
  {
    name: 'status',
    summary: 'See whether the server serves, and how its machines are',
    load: async () => (await import('./verbs/status.ts')).status.load(),
  },
  {
    name: 'top',
    summary: 'See how full everything is, as it changes',
    load: async () => (await import('./verbs/top.ts')).top.load(),
  },
  {
    name: 'watch',
    summary: 'Follow the log of changes',
    load: async () => (await import('./verbs/log.ts')).watch.load(),
  },
  {
    name: 'explain',
    summary: 'Find out why a claim would be granted, or why not',
    load: async () => (await import('./verbs/explain.ts')).explain.load(),
  },
  {
    name: 'pools',
    summary: 'Address prefixes, and how they are cut into slices',
    verbs: async () => (await import('./verbs/pools.ts')).verbs,
  },
  {
    name: 'machines',
    summary: 'The hosts that own slices',
    verbs: async () => (await import('./verbs/machines.ts')).verbs,
  },
  {
    name: 'holders',
    summary: 'Who uses ports on a machine',
    verbs: async () => (await import('./verbs/holders.ts')).verbs,
  },
  {
    name: 'slices',
    summary: 'Addresses with port ranges, each owned by one machine',
    verbs: async () => (await import('./verbs/slices.ts')).verbs,
  },
  {
    name: 'sessions',
    summary: 'Which holders are alive',
    verbs: async () => (await import('./verbs/sessions.ts')).verbs,
  },
  {
    name: 'leases',
    summary: 'Who has the right to which ports',
    verbs: async () => (await import('./verbs/leases.ts')).verbs,
  },
  {
    name: 'revocations',
    summary: 'Many leases taken back at once',
    verbs: async () => (await import('./verbs/revocations.ts')).verbs,
  },
  {
    name: 'routes',
    summary: 'Where packets that come back belong',
    verbs: async () => (await import('./verbs/routes.ts')).verbs,
  },
  {
    name: 'routers',
    summary: 'What steers packets that come back to the machines',
    verbs: async () => (await import('./verbs/routers.ts')).verbs,
  },
  {
    name: 'attribution',
    summary: 'Who had a port when',
    verbs: async () => (await import('./verbs/attribution.ts')).verbs,
  },
  {
    name: 'audit',
    summary: 'Who did what',
    verbs: async () => (await import('./verbs/audit.ts')).verbs,
  },
  {
    name: 'tokens',
    summary: 'Access tokens and their roles',
    verbs: async () => (await import('./verbs/tokens.ts')).verbs,
  },
  {
    name: 'epoch',
    summary: 'Whether something that was answered may be missing, after a restored backup',
    verbs: async () => (await import('./verbs/epoch.ts')).verbs,
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
    name: 'completion',
    summary: 'Print what makes a shell complete the words of this program',
    load: async () => (await import('./commands/completion.ts')).command,
  },
  {
    name: 'complete',
    summary: 'Print what may stand at the cursor',
    isHidden: true,
    load: async () => (await import('./commands/complete.ts')).command,
  },
  {
    name: 'version',
    summary: 'Print the version of Fishery and of its runtime',
    load: async () => (await import('./commands/version.ts')).command,
  },
];
