import { z } from 'zod';
import { RoutesApplied, type Router, RouterListQuery } from '../../wire/routers.ts';
import type { Columns } from '../output/table.ts';
import { labelsField } from './fields.ts';
import { changeVerb, filtersOf, listVerb, readVerb } from './verb.ts';

const columns: Columns<Router> = {
  router: ({ id }) => id,
  applied: ({ applied_revision }) => applied_revision,
  seen: ({ seen_at }) => seen_at,
  labels: ({ labels }) => labels,
};

export const verbs = [
  listVerb({
    name: 'list',
    summary: 'List routers, with how far each has got',
    operations: ['listRouters'],
    flags: filtersOf(RouterListQuery),
    page: ({ client, flags, options }, page) => client.routers.list({ ...flags, ...page }, options),
    columns,
  }),
  readVerb({
    name: 'get',
    summary: 'Show one router',
    operations: ['getRouter'],
    args: ['router'],
    read: ({ client, args, options }) => client.routers.get(args.router, options),
  }),
  changeVerb({
    name: 'put',
    summary: 'Declare a router, or change its labels',
    operations: ['putRouter'],
    args: ['router'],
    flags: z.strictObject({ label: labelsField.default({}).meta({ description: 'Label, as KEY=VALUE; all of them' }) }),
    change: ({ client, args, flags, options }) => client.routers.put(args.router, { labels: flags.label }, options),
  }),
  changeVerb({
    name: 'delete',
    summary: 'Take a router out of service; nobody waits for it any more',
    operations: ['deleteRouter'],
    args: ['router'],
    question: ({ args }) => `Take router ${args.router} out of service?`,
    change: ({ client, args, options }) => client.routers.delete(args.router, options),
  }),
  changeVerb({
    name: 'applied',
    summary: 'Say, with the token of a router, that every route is true there',
    operations: ['reportRoutesApplied'],
    args: ['router'],
    flags: z.strictObject({ revision: RoutesApplied.shape.revision }),
    change: ({ client, args, flags, options }) => client.routers.applied(args.router, flags, options),
  }),
];
