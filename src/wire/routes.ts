import { z } from 'zod';
import { queryNumber } from './lists.ts';
import { Instant, Name, Ports, Revision, SelectorText, SliceId } from './primitives.ts';

/**
 * Where packets that come back belong. A router takes a snapshot (`RouteSnapshot`), then follows changes (`RouteChange`)
 * from its revision, and acknowledges what it made true (`RoutesApplied`, see routers.ts).
 */

export const Route = z
  .strictObject({
    slice: SliceId,
    pool: Name,
    address: z.string(),
    ports: Ports.meta({ description: 'An aligned power of two, for tcp, udp and icmp (the echo identifier) alike.' }),
    machine: Name,
    mark: z.int().nullable().meta({ description: 'The packet mark of the machine, where it has one.' }),
    next_hop: z
      .string()
      .nullable()
      .meta({ description: "The machine's next hop of the family of the address, where it has one." }),
    generation: z.int(),
    revision: Revision.meta({ description: 'At which it came.' }),
  })
  .meta({ id: 'Route', description: 'Packets to these ports of this address belong to this machine.' });

export const RouteSnapshot = z.strictObject({ epoch: z.string(), revision: Revision, routes: z.array(Route) }).meta({
  id: 'RouteSnapshot',
  description: 'One consistent state at `revision`; the event stream goes on from there.',
});

/** One change of the routes. The SSE id is the revision. */
export const RouteChange = z
  .discriminatedUnion('kind', [
    z.strictObject({ kind: z.literal('route'), revision: Revision, at: Instant, route: Route }),
    z.strictObject({
      kind: z.literal('withdrawn'),
      revision: Revision,
      at: Instant,
      slice: SliceId,
      pool: Name,
      address: z.string(),
      ports: Ports,
    }),
    z
      .strictObject({
        kind: z.literal('machine'),
        revision: Revision,
        at: Instant,
        machine: Name,
        mark: z.int().nullable(),
        next_hops: z.array(z.string()),
      })
      .meta({ description: 'How a machine is reached from now on: it holds for all its routes.' }),
  ])
  .meta({ id: 'RouteChange' });

const filter = {
  pool: Name.optional().meta({ description: 'Only of this pool.' }),
  machine: Name.optional().meta({ description: 'Only to this machine.' }),
  select: SelectorText.optional().meta({ description: 'Only of pools whose labels match.' }),
};

export const routeFormats = ['json', 'csv', 'nft'] as const;
export const RoutesQuery = z.strictObject({
  ...filter,
  format: z.enum(routeFormats).optional().meta({ description: 'Wins over the Accept header.' }),
});
export const RoutesWatchQuery = z.strictObject({
  ...filter,
  from: queryNumber(Revision).optional().meta({
    description: 'Changes after this revision; `revision` of the snapshot. The header Last-Event-ID wins over it.',
  }),
});

export type Route = z.infer<typeof Route>;
export type RouteSnapshot = z.infer<typeof RouteSnapshot>;
export type RouteChange = z.infer<typeof RouteChange>;
export type RoutesQuery = z.infer<typeof RoutesQuery>;
export type RoutesWatchQuery = z.infer<typeof RoutesWatchQuery>;
