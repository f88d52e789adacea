import { request } from 'node:http';
import { z } from 'zod';
import { talkerKinds } from '../../agent/flow-pages.ts';
import { protocols } from '../../net/protocol.ts';
import { AddressText } from '../../wire/primitives.ts';
import { defineCommand, exitCodes, jsonFlag, type CommandContext, type CommandEntry } from '../command.ts';
import { tableOf, type Columns } from '../output/table.ts';

const timeout_ms = 30_000;
const answer_bytes_max = 64 * 1_024 * 1_024;

const commonFlags = jsonFlag.extend({
  socket: z.string().default('/var/lib/fishery/agent.sock').meta({
    description: 'The status socket of the agent: agent.sock in its state_dir. Root alone may open it',
  }),
});
const limitOf = (standard: number, max: number) =>
  z.int().min(1).max(max).default(standard).meta({ description: 'At most so many' });

const Row = z.record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.null()]));
type Row = z.infer<typeof Row>;
const Document = z.looseObject({
  flows: z.array(Row).optional(),
  talkers: z.array(Row).optional(),
  remotes: z.array(Row).optional(),
  truncated: z.boolean().optional(),
});

/** The body of a page on a Unix socket, and its status. Rejects when nobody answers there. */
function get(socketPath: string, path: string): Promise<Readonly<{ status: number; body: string }>> {
  return new Promise((resolve, reject) => {
    const asking = request({ socketPath, path, timeout: timeout_ms }, (response) => {
      let [body, bytes] = ['', 0];
      response.setEncoding('utf8');
      response.on('data', (text: string) => {
        bytes += text.length;
        if (bytes > answer_bytes_max) asking.destroy(new Error('the answer is too long'));
        else body += text;
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body }));
      response.on('error', reject);
    });
    asking.on('timeout', () => asking.destroy(new Error('no answer in time')));
    asking.on('error', reject);
    asking.end();
  });
}

async function show(
  { print, complain }: CommandContext,
  flags: z.output<typeof commonFlags>,
  page: Readonly<{ path: string; query: Readonly<Record<string, string | number | undefined>>; none: string }>,
  columns: Columns<Row>,
): Promise<number> {
  const given = Object.entries(page.query).flatMap(([key, value]): [string, string][] =>
    value === undefined ? [] : [[key, String(value)]],
  );
  let answer: Awaited<ReturnType<typeof get>>;
  try {
    answer = await get(flags.socket, `${page.path}?${new URLSearchParams(given).toString()}`);
  } catch (error) {
    complain(`no agent answers at ${flags.socket}: ${error instanceof Error ? error.message : String(error)}`);
    return exitCodes.unreachable;
  }
  if (answer.status !== 200) {
    complain(answer.body.trim());
    return answer.status === 400 ? exitCodes.usage : exitCodes.unreachable;
  }
  const document = Document.parse(JSON.parse(answer.body));
  if (flags.json) {
    print(JSON.stringify(document, null, 2));
    return exitCodes.ok;
  }
  const rows = document.flows ?? document.talkers ?? document.remotes ?? [];
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
    lease: z.string().optional().meta({ description: 'Only those of this lease' }),
    protocol: z.enum(protocols).optional().meta({ description: 'Only those of this protocol' }),
    state: z.enum(['live', 'resting']).optional().meta({ description: 'live: in use; resting: over, the port kept' }),
    limit: limitOf(100, 10_000),
  }),
  details: `Asks the agent of this host. Needs root. A UDP mapping is toward any remote, unless the settings say otherwise. Who had a
port before is a question to the server: fishery attribution.`,
  run: (flags, context) => {
    const { client, remote, lease, protocol, state, limit } = flags;
    const query = { client, remote, lease, protocol, state, limit };
    return show(
      context,
      flags,
      { path: '/flows', query, none: 'no such flow' },
      {
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
      { path: '/flows/top', query: { by: flags.by, limit: flags.limit }, none: 'no flow' },
      {
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
      { path: '/flows/ports', query: { limit: flags.limit }, none: 'no port is used' },
      {
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

export const verbs: readonly CommandEntry[] = [
  { name: 'list', summary: 'The flows that are there now', load: async () => list },
  { name: 'top', summary: 'Who sends and receives most', load: async () => top },
  { name: 'ports', summary: 'How far the leased ports are used toward the busiest remotes', load: async () => ports },
];
