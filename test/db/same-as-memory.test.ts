import { test } from '@fast-check/vitest';
import { describe } from 'vitest';
import { playInLockstep } from '../support/lockstep.ts';
import { steps, type Step } from '../support/operations.ts';
import { readTables } from '../support/stored-tables.ts';
import { temporaryStore } from '../support/temporary-store.ts';

async function play(story: readonly Step[]): Promise<void> {
  await using temporary = await temporaryStore();
  const { store, directory } = temporary;
  await playInLockstep({ store, reopen: () => temporary.reopen(), read: async () => readTables(directory) }, story);
}

describe('the store on SQLite', () => {
  test.prop([steps(80)], { numRuns: 20, interruptAfterTimeLimit: 30_000 })(
    'comes to the same table as the store in memory',
    play,
    60_000,
  );
});
