import { z } from 'zod';

/** Cursor pagination: pass `next` back as `cursor` until it is null. */
export const PageQuery = z.strictObject({
  limit: z.coerce.number().int().min(1).max(1_000).default(100),
  cursor: z.string().max(200).optional(),
});
export const pageOf = <T extends z.ZodType>(id: string, item: T) =>
  z.strictObject({ items: z.array(item), next: z.string().nullable() }).meta({ id });
export type Page<T> = Readonly<{ items: T[]; next: string | null }>;
