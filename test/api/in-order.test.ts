import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { inOrder } from '../../src/api/in-order.ts';

const collect = async <T>(from: AsyncIterable<T>): Promise<T[]> => {
  const found: T[] = [];
  for await (const item of from) found.push(item);
  return found;
};

describe('work in order', () => {
  it('comes out as it went in, whatever takes longer', async () => {
    const took = inOrder([5, 1, 4, 1, 0, 3], 3, async (ms) => {
      await sleep(ms);
      return ms;
    });
    expect(await collect(took)).toEqual([5, 1, 4, 1, 0, 3]);
  });

  it('has no more under way than it may, and begins nothing that nobody waits for', async () => {
    let begun = 0;
    let now = 0;
    let most = 0;
    const work = inOrder(Array(20).keys(), 4, async (item) => {
      begun++;
      most = Math.max(most, ++now);
      await sleep(1);
      now--;
      return item;
    });
    expect(begun).toBe(0);
    await work.next();
    expect(begun).toBe(4);
    await sleep(20);
    expect(begun).toBe(4);
    expect(await collect(work)).toHaveLength(19);
    expect(most).toBe(4);
  });

  it('fails where its turn comes, and leaves no failure behind', async () => {
    const work = inOrder([1, 2, 3], 3, async (item) => {
      if (item > 1) throw new Error(`at ${item}`);
      return item;
    });
    expect((await work.next()).value).toBe(1);
    await expect(work.next()).rejects.toThrow('at 2');
  });
});
