import type { Element } from '../host/sets.ts';

/** Bounded by the kernel's own bound on one transaction. */
export const elementsPerCommit_max = 50_000;

/** What one transaction does, in this order. */
export type Batch = readonly Readonly<{ change: 'add' | 'discard'; elements: readonly Element[] }>[];

/**
 * Changes as few transactions, each of them whole: all that is about one block of one address, whatever the sets, is in the
 * same one. A block that changes hands (its old elements go, its new ones come) does so at once.
 */
export function inBatches(
  add: readonly Element[],
  remove: readonly Element[],
  most = elementsPerCommit_max,
): readonly Batch[] {
  const isWhole = add.length + remove.length <= most;
  const ofBlocks = isWhole ? [{ add, remove }] : byBlock(add, remove);
  const batches: { add: Element[]; remove: Element[] }[] = [];
  let room = 0;
  for (const block of ofBlocks) {
    const needed = block.add.length + block.remove.length;
    if (needed > room) {
      batches.push({ add: [], remove: [] });
      room = most;
    }
    for (const each of block.add) batches.at(-1)?.add.push(each);
    for (const each of block.remove) batches.at(-1)?.remove.push(each);
    room -= needed;
  }
  return batches.map((batch) => [
    { change: 'add', elements: batch.add },
    { change: 'discard', elements: batch.remove },
  ]);
}

type Changes = Readonly<{ add: readonly Element[]; remove: readonly Element[] }>;

function byBlock(add: readonly Element[], remove: readonly Element[]): readonly Changes[] {
  const blocks = new Map<string, { add: Element[]; remove: Element[] }>();
  const blockOf = ({ key }: Element) => {
    const name = key.split(' . ', 2).join(' . ');
    const block = blocks.get(name) ?? { add: [], remove: [] };
    blocks.set(name, block);
    return block;
  };
  for (const each of add) blockOf(each).add.push(each);
  for (const each of remove) blockOf(each).remove.push(each);
  return [...blocks.values()];
}
