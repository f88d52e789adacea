import type { PageOf, PageRequest } from '../../leases/store.ts';

/** What takes a read of the store is read this often at most: several scrapers share one answer. */
const age_us_max = 5_000_000;

/** A reading that is shared by all who ask for it within a few seconds, also by those who ask while it is being taken. */
export function shared<T>(
  nowUs: () => number,
  read: () => Promise<T>,
  ageUsMax: number = age_us_max,
): () => Promise<T> {
  let at = -Infinity;
  let taking: Promise<T> | undefined;
  return () => {
    if (taking === undefined || nowUs() - at > ageUsMax) {
      at = nowUs();
      taking = read();
      // A reading that failed is taken again by the next who asks.
      taking.catch(() => (at = -Infinity));
    }
    return taking;
  };
}

const page_rows = 1_000;

/** The first `max` of a list. */
export async function firstOf<T>(list: (page: PageRequest) => Promise<PageOf<T>>, max: number): Promise<readonly T[]> {
  const items: T[] = [];
  for (let cursor: string | null = null; items.length < max;) {
    const page: PageOf<T> = await list({ limit: Math.min(page_rows, max - items.length), cursor });
    items.push(...page.items);
    if (page.next === null) break;
    cursor = page.next;
  }
  return items;
}
