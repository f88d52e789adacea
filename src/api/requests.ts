import { z } from 'zod';
import type { PageRequest } from '../leases/store.ts';
import { Name } from '../wire/primitives.ts';

/** `{id}` in a path, where operators choose the name. */
export const ById = z.strictObject({ id: Name });

/** `lease-1842` → 1842. The schemas have checked the shape; a number too large to be exact names nothing that exists. */
export const numberOf = (identifier: string): number => Number(identifier.slice(identifier.indexOf('-') + 1));

export const pageRequest = (query: Readonly<{ limit: number; cursor?: string | undefined }>): PageRequest => ({
  limit: query.limit,
  cursor: query.cursor ?? null,
});

type Defined<T> = { [K in keyof T]: Exclude<T[K], undefined> };

/** Leaves out what is undefined: to the core, absent and undefined are different facts. */
export const defined = <T extends object>(values: T): Defined<T> =>
  Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as Defined<T>;
