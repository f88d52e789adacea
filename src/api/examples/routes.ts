import type { z } from 'zod';
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
