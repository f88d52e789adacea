import { z } from 'zod';
import type { PageRequest } from '../leases/store.ts';
import { Name } from '../wire/primitives.ts';
import { apiProblem } from './problems.ts';

/** `{id}` in a path, where operators choose the name. */
export const ById = z.strictObject({ id: Name });

/** `lease-1842` → 1842. The schemas have checked the shape; a number too large to be exact names nothing that exists. */
export const numberOf = (identifier: string): number => Number(identifier.slice(identifier.indexOf('-') + 1));

type PageOfQuery = Readonly<{ limit: number; cursor?: string | undefined }>;

/** Where a page begins: after a name, or after an identifier's number. Any other cursor never came from here. */
export function pageRequest({ limit, cursor }: PageOfQuery, by: 'name' | 'number'): PageRequest {
  const isOurs = cursor === undefined || (by === 'name' ? Name.safeParse(cursor).success : /^\d{1,16}$/.test(cursor));
  if (isOurs) return { limit, cursor: cursor ?? null };
  const message = 'must be `next` of the page before';
  throw apiProblem('validation_failed', `query.cursor: ${message}`, { errors: [{ path: 'query.cursor', message }] });
}

type Defined<T> = { [K in keyof T]: Exclude<T[K], undefined> };

/** Leaves out what is undefined: to the core, absent and undefined are different facts. */
export const defined = <T extends object>(values: T): Defined<T> =>
  Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as Defined<T>;
