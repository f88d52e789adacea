import type { LeaseError } from './errors.ts';

/**
 * Whether a change was asked for on the ground of what is no longer so. Looked at with the change itself, where nothing
 * can come between.
 */
export const staleRevision = (
  item: string,
  given: number | null | undefined,
  current: number,
): LeaseError | undefined =>
  given == null || given === current ? undefined : { code: 'precondition_failed', item, given, current };
