import { z } from 'zod';
import { destinationOrders, flowPaths, talkerKinds } from '../../agent/fish/flow-pages.ts';
import { protocols } from '../../net/protocol.ts';
import { AddressText } from '../../wire/primitives.ts';
import { askAgent, socketFlag } from '../agent-socket.ts';
import { defineCommand, exitCodes, jsonFlag, type CommandContext, type CommandEntry } from '../command.ts';
import { tableOf, type Columns } from '../output/table.ts';

const commonFlags = jsonFlag.extend(socketFlag).extend({
  path: z.enum(flowPaths).optional().meta({ description: 'Only those that are translated, or carried on by sockets' }),
});
const limitOf = (standard: number, max: number) =>
  z.int().min(1).max(max).default(standard).meta({ description: 'At most so many' });

const portFlag = () =>
  z.coerce.number().int().min(0).max(65_535).optional().meta({ description: 'Only those toward this port' });

const Row = z.record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.null(), z.array(z.number())]));
type Row = z.infer<typeof Row>;
const Document = z.looseObject({
  flows: z.array(Row).optional(),
  talkers: z.array(Row).optional(),
  remotes: z.array(Row).optional(),
  origins: z.array(Row).optional(),
  truncated: z.boolean().optional(),
});

async function show(
  { print, complain }: CommandContext,
  flags: Omit<z.output<typeof commonFlags>, 'path'>,
  page: Readonly<{ path: string; query: Readonly<Record<string, string | number | undefined>>; none: string }>,
  columns: Columns<Row>,
): Promise<number> {
  const answer = await askAgent(flags.socket, page.path, page.query, complain);
  if (typeof answer === 'number') return answer;
  const document = Document.parse(JSON.parse(answer));
  if (flags.json) {
    print(JSON.stringify(document, null, 2));
    return exitCodes.ok;
  }
  const rows = document.flows ?? document.talkers ?? document.remotes ?? document.origins ?? [];
  print(rows.length === 0 ? page.none : tableOf(columns, rows));
  if (document.truncated) complain('there are more: set --limit, or say which');
  return exitCodes.ok;
}

const endpoint = (address: Row[string] | undefined, port: Row[string] | undefined): string => {
  const text = address == null ? 'any' : String(address);
  return `${text.includes(':') ? `[${text}]` : text}${port == null ? '' : `:${String(port)}`}`;
};
const traffic: Columns<Row> = {
  'packets out': (row) => row['packets_out'],
  'bytes out': (row) => row['bytes_out'],
  'packets in': (row) => row['packets_in'],
  'bytes in': (row) => row['bytes_in'],
};

const list = defineCommand({
  settings: z.strictObject({}),
  flags: commonFlags.extend({
    client: AddressText.optional().meta({ description: 'Only those of this client' }),
    remote: AddressText.optional().meta({ description: 'Only those toward this address' }),
    remote_port: portFlag(),
    lease: z.string().optional().meta({ description: 'Only those of this lease' }),
    holder: z.string().optional().meta({ description: "Only those of this holder's ports" }),
    protocol: z.enum(protocols).optional().meta({ description: 'Only those of this protocol' }),
    state: z.enum(['live', 'resting']).optional().meta({ description: 'live: in use; resting: over, the port kept' }),
    limit: limitOf(100, 10_000),
  }),
  details: `Asks the agent of this host. Needs root. Flows are fish's (path packet), or connections of the terminator
(path terminate), which counts bytes and no packets. A UDP mapping is toward any remote, unless the settings say otherwise. Who had a port before is a question to the server: fishery attribution.`,
  run: (flags, context) => {
    const { client, remote, remote_port, lease, holder, protocol, state, path, limit } = flags;
    const query = { client, remote, remote_port, lease, holder, protocol, state, path, limit };
    return show(
      context,
      flags,
      { path: '/flows', query, none: 'no such flow' },
      {
        path: (row) => row['path'],
        protocol: (row) => row['protocol'],
        state: (row) => row['state'],
        client: (row) => endpoint(row['client'], row['client_port']),
        'leased address': (row) => endpoint(row['address'], row['port']),
        remote: (row) => endpoint(row['remote'], row['remote_port']),
        lease: (row) => row['lease'],
        since: (row) => row['opened_at'],
        ...traffic,
      },
    );
  },
});

const top = defineCommand({
  settings: z.strictObject({}),
  flags: commonFlags.extend({
    by: z.enum(talkerKinds).default('client').meta({ description: 'Whose flows to add up' }),
    limit: limitOf(20, 10_000),
  }),
  details:
    'Those with the most bytes first, of the flows that are there now, since each began or the agent was restarted.',
  run: (flags, context) =>
    show(
      context,
      flags,
      { path: '/flows/top', query: { by: flags.by, path: flags.path, limit: flags.limit }, none: 'no flow' },
      {
        path: (row) => row['path'],
        [flags.by]: (row) => row['name'],
        flows: (row) => row['flows'],
        ...traffic,
      },
    ),
});

const ports = defineCommand({
  settings: z.strictObject({}),
  flags: commonFlags.extend({ limit: limitOf(5, 1_000) }),
  details: `For each protocol, the remotes toward which most leased ports are used: at 100 % the next flow there finds none, however many are
free toward others. A remote of "any" is all of them: a UDP mapping takes its port for everybody.`,
  run: (flags, context) =>
    show(
      context,
      flags,
      { path: '/flows/ports', query: { path: flags.path, limit: flags.limit }, none: 'no port is used' },
      {
        path: (row) => row['path'],
        protocol: (row) => row['protocol'],
        family: (row) => row['family'],
        remote: (row) => endpoint(row['remote'], row['remote_port']),
        used: (row) => row['used'],
        ports: (row) => row['ports'],
        saturation: ({ saturation }) =>
          typeof saturation === 'number' ? `${Math.round(saturation * 1_000) / 10} %` : null,
      },
    ),
});

const origins = defineCommand({
  settings: z.strictObject({}),
  flags: commonFlags.omit({ path: true }).extend({
    by: z.enum(destinationOrders).default('failures').meta({ description: 'Which come first' }),
    remote: AddressText.optional().meta({ description: 'Only those at this address' }),
    remote_port: portFlag(),
    limit: limitOf(20, 10_000),
  }),
  details: `What became of the terminator's attempts to reach origins, since it began: of each destination how many ended in which way, how
long connecting took, and what went wrong last. fish, which passes packets on, does not know.`,
  run: ({ by, remote, remote_port, limit, ...flags }, context) =>
    show(
      context,
      flags,
      { path: '/flows/origins', query: { by, remote, remote_port, limit }, none: 'no origin was asked for' },
      {
        origin: (row) => endpoint(row['remote'], row['remote_port']),
        connected: (row) => row['connected'],
        refused: (row) => row['refused'],
        'timed out': (row) => row['timed_out'],
        unreachable: (row) => row['unreachable'],
        failed: (row) => row['failed'],
        mean: (row) => milliseconds(row['connect_mean_s']),
        longest: (row) => milliseconds(row['connect_max_s']),
        'last connected': (row) => row['last_connected_at'],
        'last problem': (row) => row['last_problem'],
        at: (row) => row['last_problem_at'],
      },
    ),
});
const milliseconds = (seconds: Row[string] | undefined): string | null =>
  typeof seconds === 'number' ? `${Math.round(seconds * 1e6) / 1_000} ms` : null;

export const verbs: readonly CommandEntry[] = [
  { name: 'list', summary: 'The flows that are there now', load: async () => list },
  { name: 'top', summary: 'Who sends and receives most', load: async () => top },
  { name: 'ports', summary: 'How far the leased ports are used toward the busiest remotes', load: async () => ports },
  {
    name: 'origins',
    summary: 'What became of attempts to reach origins (terminating path)',
    load: async () => origins,
  },
];
