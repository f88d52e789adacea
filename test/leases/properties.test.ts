import { test } from '@fast-check/vitest';
import { describe, expect } from 'vitest';
import { flawsOfStep } from '../support/history.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { ordersOf, prologue, steps, type Step } from '../support/operations.ts';
import { flawsOf } from '../support/tiling.ts';
import { second, World } from '../support/world.ts';

async function play(story: readonly Step[]): Promise<void> {
  const store = new MemoryStore();
  let world = new World(store);
  for (const command of prologue) expect(await world.execute(command)).toMatchObject({ ok: true });
  for (const step of story) {
    const before = structuredClone(store.tables);
    const revision = store.revision;
    if (step.do === 'pass') world.clock.passSeconds(step.seconds);
    else if (step.do === 'prune') {
      await store.prune({ now: world.clock.us, keptUs: step.keptSeconds * second, rowsMax: step.rowsMax });
      const isOver = ({ endedAt }: Readonly<{ endedAt: number | null }>) => endedAt !== null;
      for (const table of ['leases', 'sessions'] as const)
        for (const [id, row] of before[table])
          if (!store.tables[table].has(id) && isOver(row)) before[table].delete(id);
    } else if (step.do === 'restart') world = new World(store, world.clock);
    else {
      const orders = ordersOf(step.commands, store.tables);
      const results = await Promise.all(orders.map(({ command, terms }) => world.execute(command, terms)));
      // A report of one item that was rejected is as good as a command that was refused, but for the answer that is kept.
      const isQuiet = results.every((result, index) => {
        const { dryRun, provenance } = orders[index]?.terms ?? {};
        if (orders[index]?.command.kind === 'explainGrant' && provenance === undefined) return true;
        if (dryRun) return true;
        // What somebody answers for is written down, whatever comes of it.
        if (provenance?.audit) return false;
        if (!result.ok || result.replayed) return true;
        // Of a broker's report the other entries count.
        const isReport = orders[index]?.command.kind === 'report';
        return isReport && provenance === undefined && 'rejected' in result.value && result.value.rejected.length > 0;
      });
      if (isQuiet) {
        expect(store.tables).toEqual(before);
        expect(store.revision).toBe(revision);
      }
    }
    expect(flawsOf(store.tables, store.events, store.historySince)).toEqual([]);
    expect(flawsOfStep(before, store.tables, world.clock.us)).toEqual([]);
    expect(world.troubles).toEqual([]);
  }
}

describe('whatever happens, in whatever order and together', () => {
  test.prop([steps(150)], { numRuns: 100, interruptAfterTimeLimit: 30_000 })(
    'slices stay tiled, leases disjoint, rests whole, the log without a gap, and what was refused or only tried changed nothing',
    play,
    60_000,
  );
});
