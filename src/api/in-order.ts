/**
 * What `work` makes of each item, in the order of the items, with at most `width` of them under way. Nothing is begun that
 * nobody has asked for yet, so whoever reads slowly is waited for.
 */
export async function* inOrder<Item, Result>(
  items: Iterable<Item>,
  width: number,
  work: (item: Item) => Promise<Result>,
): AsyncGenerator<Result, void, void> {
  const underWay: Promise<Result>[] = [];
  for (const item of items) {
    const begun = work(item);
    // It is looked at when its turn comes; until then nobody should take a failure for one that is not handled.
    begun.catch(() => {});
    underWay.push(begun);
    if (underWay.length >= width) yield await (underWay.shift() as Promise<Result>);
  }
  for (const begun of underWay) yield await begun;
}
