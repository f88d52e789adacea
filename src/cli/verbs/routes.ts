import { z } from 'zod';
import { formatPorts } from '../../net/ports.ts';
import { RoutesQuery, type Route, type RouteSnapshot } from '../../wire/routes.ts';
import { followRoutes, type RouteFilter } from '../../sdk/index.ts';
import { exitCodes } from '../command.ts';
import { interruption } from '../interruption.ts';
import { inOneLine } from '../output/one-line.ts';
import { tableOf, type Columns } from '../output/table.ts';
import { selectorField } from './fields.ts';
import { readVerb, verb } from './verb.ts';

const columns: Columns<Route> = {
  address: ({ address }) => address,
  ports: ({ ports }) => formatPorts(ports),
  machine: ({ machine }) => machine,
  mark: ({ mark }) => mark,
  'next hop': ({ next_hop }) => next_hop,
  pool: ({ pool }) => pool,
  slice: ({ slice }) => slice,
};

// The API's own filters, as text: the server reads the selector.
const filters = {
  pool: RoutesQuery.shape.pool,
  machine: RoutesQuery.shape.machine,
  select: selectorField.optional().meta({ description: 'Only of pools whose labels match, like site=fra1' }),
};
const given = ({ pool, machine, select }: RouteFilter): RouteFilter => ({
  ...(pool === undefined ? {} : { pool }),
  ...(machine === undefined ? {} : { machine }),
  ...(select === undefined ? {} : { select }),
});

export const verbs = [
  readVerb({
    name: 'list',
    summary: 'Show which machine each address and port belongs to',
    operations: ['getRoutes'],
    flags: z.strictObject(filters),
    read: ({ client, flags, options }) => client.routes.get(given(flags), options),
    inWords: ({ routes }: RouteSnapshot) => tableOf(columns, routes),
  }),
  readVerb({
    name: 'csv',
    summary: 'Print the routes as CSV',
    operations: ['getRoutes'],
    flags: z.strictObject(filters),
    read: ({ client, flags, options }) => client.routes.csv(given(flags), options),
    inWords: (text: string) => text.trimEnd(),
  }),
  readVerb({
    name: 'nft',
    summary: 'Print the routes as a file for nft -f',
    operations: ['getRoutes'],
    flags: z.strictObject(filters),
    details: 'Load it with `fishery routes nft | nft -f -`; it replaces what an earlier one put there, at one moment.',
    read: ({ client, flags, options }) => client.routes.nft(given(flags), options),
    inWords: (text: string) => text.trimEnd(),
  }),
  verb({
    name: 'watch',
    summary: 'Follow the routes: all of them, then every change',
    operations: ['getRoutes', 'watchRoutes'],
    flags: z.strictObject(filters),
    details: `With --json every line is an object: {"type":"snapshot",…}, which replaces all that came before it,
{"type":"change",…}, or {"type":"bookmark",…}, which tells how far it has come.`,
    run: async ({ client, flags, output, context: { print, complain, terminal } }) => {
      using interrupted = interruption(terminal.signals);
      const onTrouble = (error: Error, retryInMs: number) =>
        complain(`${error.message}; trying again in ${Math.ceil(retryInMs / 1_000)} s`);
      for await (const item of followRoutes(client, given(flags), { signal: interrupted.signal, onTrouble }))
        if (output.json) print(JSON.stringify(item));
        else if (item.type === 'snapshot') print(tableOf(columns, item.snapshot.routes));
        else if (item.type === 'change') {
          const { kind, revision, at, ...rest } = item.change;
          const what = inOneLine('route' in rest ? rest.route : rest);
          print(`${String(revision).padStart(8)}  ${at}  ${kind.padEnd(9)} ${what}`);
        }
      return exitCodes.ok;
    },
  }),
];
