import { z } from 'zod';
import type { PageRequest } from '../leases/store.ts';
import { Name } from '../wire/primitives.ts';
import { apiProblem } from './problems.ts';

/** `{id}` in a path, where operators choose the name. */
export const ById = z.strictObject({ id: Name });

/** `lease-1842` → 1842. The schemas have checked the shape; a number too large to be exact names nothing that exists. */
export const numberOf = (identifier: string): number => Number(identifier.slice(identifier.indexOf('-') + 1));

type PageOfQuery = Readonly<{ limit: number; cursor?: string | undefined }>;

/** Opaque to clients, so that what a cursor is made of can change. */
export const encodeCursor = (key: string): string => Buffer.from(key).toString('base64url');

/**
 * Where a page begins: after a name, after the number of an identifier, or after instants and numbers in two orders. Any other cursor
 * never came from here.
 */
export function pageRequest({ limit, cursor }: PageOfQuery, by: 'name' | 'number' | 'instant'): PageRequest {
  if (cursor === undefined) return { limit, cursor: null };
  const key = Buffer.from(cursor, 'base64url').toString();
  const isKey =
    by === 'name'
      ? Name.safeParse(key).success
      : (by === 'number' ? /^\d{1,15}$/ : /^\d{1,16}-\d{1,15}-\d{1,16}-\d{1,15}-\d{1,15}$/).test(key);
  if (isKey && encodeCursor(key) === cursor) return { limit, cursor: key };
  const message = 'must be `next` of the page before';
  throw apiProblem('validation_failed', `query.cursor: ${message}`, { errors: [{ path: 'query.cursor', message }] });
}

type Defined<T> = { [K in keyof T]: Exclude<T[K], undefined> };

/** Leaves out what is undefined: to the core, absent and undefined are different facts. */
export const defined = <T extends object>(values: T): Defined<T> =>
  Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as Defined<T>;
