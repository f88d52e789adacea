import type { z } from 'zod';
import type { RouteChange, RouteSnapshot } from '../../wire/routes.ts';
import type { Router, RouterPut, RoutesApplied } from '../../wire/routers.ts';

/** The part of the examples' story (see examples.ts) that routers play in it. */

export const routerPut: z.input<typeof RouterPut> = { labels: { site: 'fra1' } };
export const router: Router = {
  id: 'border-1',
  labels: { site: 'fra1' },
  applied_revision: 57,
  seen_at: '2026-01-31T14:03:07.250000Z',
  created_at: '2026-01-31T14:00:00.000000Z',
  updated_at: '2026-01-31T14:00:00.000000Z',
  revision: 6,
};
export const routesApplied: RoutesApplied = { revision: 57 };

const route: RouteSnapshot['routes'][number] = {
  slice: 'slice-12',
  pool: 'fra1',
  address: '198.51.100.10',
  ports: { first: 8_192, last: 10_239 },
  machine: 'edge-1',
  mark: 257,
  next_hop: '192.0.2.11',
  generation: 1,
  revision: 12,
};
export const routeSnapshot: RouteSnapshot = { epoch: '1', revision: 57, routes: [route] };
export const routesAsCsv =
  'address,first_port,last_port,machine,mark,next_hop,pool,slice,generation,revision\r\n' +
  '198.51.100.10,8192,10239,edge-1,257,192.0.2.11,fra1,slice-12,1,12\r\n';
export const routesAsNft = [
  'add table inet fishery_routes',
  'add map inet fishery_routes mark4_2048 { typeof ip daddr . th dport : meta mark; }',
  'flush map inet fishery_routes mark4_2048',
  'add element inet fishery_routes mark4_2048 { 198.51.100.10 . 8192 : 257 }',
  '',
].join('\n');

const routeChange: RouteChange = { kind: 'route', revision: 12, at: '2026-01-31T14:01:00.000000Z', route };
/** As it passes over the connection. */
export const routeStream = [
  `id: 12\nevent: change\ndata: ${JSON.stringify(routeChange)}\n`,
  `id: 57\nevent: bookmark\ndata: ${JSON.stringify({ revision: 57 })}\n`,
  '',
].join('\n');
