import { describe, expect, it } from 'vitest';
import { furnishForLoad, killUnderLoad, lostOf } from '../support/killed.ts';
import { readTables } from '../support/stored-tables.ts';
import { temporaryStore } from '../support/temporary-store.ts';
import { flawsOf } from '../support/tiling.ts';
import { second, World } from '../support/world.ts';

describe('a server that is killed in the middle of its work', () => {
  it.each([200, 1_000, 3_000])(
    'has everything on disk that it answered, and nothing half (after %i answers)',
    async (answers) => {
      await using temporary = await temporaryStore();
      const world = new World(temporary.store);
      world.clock.us = Date.now() * 1_000;
      const session = await furnishForLoad(world);
      await temporary.store.close();
      const said = await killUnderLoad(temporary.directory, session, answers);
      await temporary.reopen();
      const { tables, events } = readTables(temporary.directory);
      expect(lostOf(said, tables)).toEqual([]);
      expect(flawsOf(tables, events)).toEqual([]);
      expect(said.size).toBeGreaterThan(answers / 8);

      // And it goes on: what is left over is swept up, and ports are granted again.
      const after = new World(temporary.store);
      after.clock.us = (events.at(-1)?.at ?? 0) + second;
      await after.pass(1);
      await after.alive('edge-1');
      expect(flawsOf(readTables(temporary.directory).tables, readTables(temporary.directory).events)).toEqual([]);
    },
  );
});
