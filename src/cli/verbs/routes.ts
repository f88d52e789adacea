import { z } from 'zod';
import { formatPorts } from '../../net/ports.ts';
import { RoutesQuery, type Route, type RouteSnapshot } from '../../wire/routes.ts';
import type { RouteFilter } from '../../sdk/index.ts';
import { tableOf, type Columns } from '../output/table.ts';
import { readVerb } from './verb.ts';

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
  select: z.string().optional().meta({ description: 'Only of pools whose labels match, like site=fra1' }),
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
];
