import type { IfRevision } from './commands.ts';
import type { LeaseError } from './errors.ts';

/**
 * Whether a change was asked for on the ground of what is no longer so. Looked at with the change itself, where nothing
 * can come between.
 */
export function staleRevision(
  item: string,
  given: IfRevision['ifRevision'],
  /** Null: there is no such thing, which is what nobody can have seen. */
  current: number | null,
): LeaseError | undefined {
  if (given === undefined) return undefined;
  const isToBeNew = Array.isArray(given) && given.length === 0;
  if (isToBeNew && current === null) return undefined;
  if (current !== null && (given === null || [given].flat().includes(current))) return undefined;
  return { code: 'precondition_failed', item, given, current };
}
