import { z } from 'zod';
import { parseSelector } from '../net/selector.ts';
import { ownLabelFilter, pageOf, PageQuery } from './lists.ts';
import { Instant, Labels, Name, Revision } from './primitives.ts';

export const RouterPut = z.strictObject({ labels: Labels.default({}) }).meta({ id: 'RouterPut' });

export const Router = z
  .strictObject({
    id: Name,
    labels: Labels,
    applied_revision: Revision.meta({ description: 'Every route is true there, as of this revision.' }),
    seen_at: Instant.nullable().meta({ description: 'When it last said so; null: never.' }),
    created_at: Instant,
    updated_at: Instant,
    revision: Revision,
  })
  .meta({ id: 'Router', description: 'What steers packets that come back to the machines.' });
export const RouterListQuery = PageQuery.extend(ownLabelFilter);
export const RouterPage = pageOf('RouterPage', Router);

export const RoutesApplied = z
  .strictObject({
    revision: Revision.meta({ description: 'Of the snapshot, change or bookmark up to which everything is true.' }),
  })
  .meta({ id: 'RoutesApplied' });

const ids = z.array(Name).min(1).max(64);
const select = z
  .string()
  .max(1_024)
  .refine((text) => parseSelector(text).ok, 'must be a label selector like site=fra1,role in (edge,core)');

/** Which routers a pool waits for, and for how many of them. */
export const PoolRouters = z
  .strictObject({
    ids: ids.optional().meta({ description: 'These routers.' }),
    select: select
      .optional()
      .meta({ description: 'Those whose labels match. Neither `ids` nor `select`: all of them.' }),
    policy: z
      .union([z.enum(['none', 'all']), z.strictObject({ at_least: z.int().min(1).max(64) })])
      .default('none')
      .meta({ description: 'How many of them must acknowledge.' }),
  })
  .refine((routers) => routers.ids === undefined || routers.select === undefined, 'either ids or select, not both')
  .refine(
    ({ ids: named, policy }) => named === undefined || typeof policy === 'string' || policy.at_least <= named.length,
    'at_least is more than there are ids',
  )
  .meta({
    id: 'PoolRouters',
    description:
      'Which routers must know the way to a slice before its machine uses it, and have let go of it before the slice is free.',
  });

export type RouterPut = z.infer<typeof RouterPut>;
export type Router = z.infer<typeof Router>;
export type RoutesApplied = z.infer<typeof RoutesApplied>;
export type PoolRouters = z.infer<typeof PoolRouters>;
export type RouterListQuery = z.input<typeof RouterListQuery>;
