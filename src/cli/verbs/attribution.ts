import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { exitCodes, type CommandContext } from '../command.ts';
import type { PastLease } from '../../wire/attribution.ts';
import type { Columns } from '../output/table.ts';
import { endpointField, instantField, parseEndpoint, parsePlace } from './fields.ts';
import { listVerb, show, verb } from './verb.ts';

const columns: Columns<PastLease> = {
  from: ({ from }) => from,
  until: ({ until }) => until,
  holder: ({ holder }) => holder,
  machine: ({ machine }) => machine,
  address: ({ address }) => address,
  protocol: ({ protocol }) => protocol,
  ports: ({ ports }) => ports,
  mode: ({ mode }) => mode,
  ending: ({ ending }) => ending,
  lease: ({ lease }) => lease,
};

export const verbs = [
  verb({
    name: 'who',
    summary: 'Find out who had an address and port at an instant',
    operations: ['attribute'],
    args: ['endpoint'],
    flags: z.strictObject({
      at: instantField.optional().meta({ description: 'Instant, or how long ago: 15m, 2h; default now' }),
      remote: z.string().optional().meta({
        description: 'The other end, ADDRESS:PORT; it tells holders of a shared port apart',
      }),
    }),
    details: `Exit code 3 when nobody had it.

  fishery attribution who 198.51.100.10:9001/tcp --at 2026-01-31T14:03:07Z --remote 203.0.113.5:443`,
    run: async (call) => {
      const { client, args, flags, options, context } = call;
      const endpoint = parseEndpoint(args.endpoint);
      const remote = flags.remote === undefined ? undefined : parsePlace(flags.remote);
      for (const part of [endpoint, remote]) if (part && !part.ok) context.complain(part.error);
      if (!endpoint.ok || (remote && !remote.ok)) return exitCodes.usage;
      const answer = await client.attribution(
        {
          ...endpoint.value,
          ...(flags.at === undefined ? {} : { at: flags.at }),
          ...(remote ? { remote_address: remote.value.address, remote_port: remote.value.port } : {}),
        },
        options,
      );
      show(call, answer);
      return answer.certainty === 'none' ? exitCodes.notFound : exitCodes.ok;
    },
  }),
  listVerb({
    name: 'history',
    summary: 'List who had a port, or what a holder had, within a time',
    operations: ['attributionHistory'],
    flags: z.strictObject({
      place: endpointField.optional().meta({ description: 'Who had this: ADDRESS:PORT or ADDRESS:PORT/PROTOCOL' }),
      machine: z.string().optional().meta({ description: 'What a holder on this machine had' }),
      holder: z.string().optional().meta({ description: 'The holder; with --machine' }),
      since: instantField.optional().meta({ description: 'Instant, or how long ago; default a day before --until' }),
      until: instantField.optional().meta({ description: 'Instant, or how long ago; default now' }),
    }),
    details: `  fishery attribution history --place 198.51.100.10:9001/tcp --since 2h
  fishery attribution history --machine edge-1 --holder haproxy --since 2026-01-31T00:00:00Z`,
    page: ({ client, flags: { place, ...flags }, options }, page) =>
      client.attributionHistory({ ...place, ...flags, ...page }, options),
    columns,
    id: ({ lease }) => lease,
  }),
  verb({
    name: 'bulk',
    summary: 'Answer a list of questions from a file or standard input',
    operations: ['attributeBulk'],
    flags: z.strictObject({
      file: z.string().optional().meta({ description: 'The list; default standard input' }),
      format: z.enum(['csv', 'ndjson']).optional().meta({ description: 'Default by the name of the file, or csv' }),
    }),
    details: `The first line of CSV names the columns: address, protocol, port, at, and where known remote_address, remote_port
and a ref of your own. A line of NDJSON is an object with these keys. The answers come in the same form, one for each.

  fishery attribution bulk --file reports.csv > answers.csv`,
    run: async ({ client, flags: { file, format }, options, context }) => {
      const isNdjson = format === undefined ? /\.(?:ndjson|jsonl)$/.test(file ?? '') : format === 'ndjson';
      const list = await readList(file, context);
      if (list === undefined) return exitCodes.usage;
      const answers = await client.attributionBulk(list, isNdjson ? 'application/x-ndjson' : 'text/csv', options);
      if (answers !== '') context.print(answers.trimEnd());
      return exitCodes.ok;
    },
  }),
];

async function readList(file: string | undefined, { terminal, complain }: CommandContext): Promise<string | undefined> {
  try {
    if (file !== undefined) return await readFile(file, 'utf8');
    const pieces: Uint8Array[] = [];
    for await (const piece of terminal.input()) pieces.push(piece);
    return Buffer.concat(pieces).toString();
  } catch (error) {
    complain(`${file ?? 'standard input'} cannot be read: ${error instanceof Error ? error.message : String(error)}`);
    return undefined;
  }
}
