import { z } from 'zod';
import { exitCodes } from '../command.ts';
import { instantField, parseEndpoint, parsePlace } from './fields.ts';
import { show, verb } from './verb.ts';

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
];
