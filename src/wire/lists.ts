import { z } from 'zod';
import { SelectorText } from './primitives.ts';

/**
 * A number as it stands in a query string. Only plain decimal digits are read: `Number('')` is 0 and `Number('0x10')` is
 * 16, and neither is what anybody meant. Everything else reaches the inner schema as text and is refused there.
 */
export const queryNumber = <T extends z.ZodType>(inner: T) =>
  z.preprocess(
    (value: string | number) => (typeof value === 'string' && /^-?\d+(?:\.\d+)?$/.test(value) ? Number(value) : value),
    inner,
  );

/** A yes or no in a query string, where everything is text. */
export const QueryFlag = z.enum(['true', 'false']).transform((text) => text === 'true');

/** What every operation that the core decides takes: see `fishery-dry-run` in the answer. */
export const dryRunQuery = {
  dry_run: QueryFlag.optional().meta({
    description:
      'true: answer what would be, with the header `fishery-dry-run: true`, and change nothing. Identifiers and revisions in the answer are provisional, and there is no ETag.',
  }),
};

/** Cursor pagination: pass `next` back as `cursor` until it is null. */
export const PageQuery = z.strictObject({
  limit: queryNumber(z.int().min(1).max(1_000)).default(100).meta({ description: 'How many items at most.' }),
  cursor: z.string().max(200).optional().meta({ description: '`next` of the page before.' }),
});
/** Filters of a list by labels that are not the things' own. */
export const labelFilters = {
  select: SelectorText.optional().meta({ description: 'Only in pools whose labels match.' }),
  select_machine: SelectorText.optional().meta({ description: 'Only on machines whose labels match.' }),
};
/** The filter of a list by the things' own labels. */
export const ownLabelFilter = {
  select: SelectorText.optional().meta({ description: 'Only those whose labels match.' }),
};

/** Each broker has numbers of its own, so what one reported is listed by itself; labels are looked at nowhere then. */
export function ofOneBroker(
  query: Readonly<{ allocator: string; machine?: string | undefined; select?: unknown; select_machine?: unknown }>,
  context: z.RefinementCtx,
): void {
  if (query.allocator !== 'machine') return;
  if (query.machine === undefined)
    context.addIssue({ code: 'custom', path: ['machine'], message: 'is required with allocator=machine' });
  for (const name of ['select', 'select_machine'] as const)
    if (query[name] !== undefined)
      context.addIssue({ code: 'custom', path: [name], message: 'does not go with allocator=machine' });
}

export const pageOf = <T extends z.ZodType>(id: string, item: T) =>
  z
    .strictObject({
      items: z.array(item),
      next: z
        .string()
        .nullable()
        .meta({ description: 'Pass it as `cursor` for the next page; null: this is the last.' }),
    })
    .meta({ id });
export type Page<T> = Readonly<{ items: T[]; next: string | null }>;
