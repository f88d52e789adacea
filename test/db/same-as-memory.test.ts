import { test } from '@fast-check/vitest';
import { describe, expect } from 'vitest';
import { MemoryStore } from '../support/memory-store.ts';
import { commandOf, prologue, steps, type Step } from '../support/operations.ts';
import { readTables } from '../support/sqlite-tables.ts';
import { temporaryStore } from '../support/temporary-store.ts';
import { flawsOf } from '../support/tiling.ts';
import { World } from '../support/world.ts';

/** The same story on two stores: one of maps and filters, one of indexes and SQL. They must come to the same table. */
async function play(story: readonly Step[]): Promise<void> {
  await using temporary = await temporaryStore();
  const memory = new MemoryStore();
  let plain = new World(memory);
  let real = new World(temporary.store);
  for (const command of prologue) expect(await real.execute(command)).toEqual(await plain.execute(command));
  for (const step of story) {
    if (step.do === 'pass') for (const world of [plain, real]) world.clock.passSeconds(step.seconds);
    else if (step.do === 'restart') {
      plain = new World(memory, plain.clock);
      real = new World(await temporary.reopen(), real.clock);
    } else {
      const commands = step.commands
        .map((ask) => commandOf(ask, memory.tables))
        .filter((command) => command !== undefined);
      const wanted = await Promise.all(commands.map((command) => plain.execute(command)));
      const found = await Promise.all(commands.map((command) => real.execute(command)));
      expect(found).toEqual(wanted);
    }
    const { tables, events } = readTables(temporary.directory);
    expect(tables).toEqual(memory.tables);
    expect(events).toEqual(memory.events);
    expect(flawsOf(tables, events)).toEqual([]);
    expect(new Set(await temporary.store.reader.usage())).toEqual(new Set(await memory.reader.usage()));
    expect([...real.troubles, ...plain.troubles]).toEqual([]);
  }
}

describe('the store on SQLite', () => {
  test.prop([steps(80)], { numRuns: 20, interruptAfterTimeLimit: 30_000 })(
    'comes to the same table as the store in memory',
    play,
    60_000,
  );
});
