import type { PageOf, PageRequest } from '../../src/leases/store.ts';

const pages_max = 1_000;

/** All items of a list, page by page. */
export async function walk<T>(list: (page: PageRequest) => Promise<PageOf<T>>, limit: number): Promise<readonly T[]> {
  const items: T[] = [];
  let cursor: string | null = null;
  for (let pages = 0; pages < pages_max; pages++) {
    const page: PageOf<T> = await list({ limit, cursor });
    if (page.items.length > limit) throw new Error(`a page of ${limit} has ${page.items.length} items`);
    items.push(...page.items);
    if (page.next === null) return items;
    cursor = page.next;
  }
  throw new Error('the list has no end');
}
