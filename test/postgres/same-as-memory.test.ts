import { test } from '@fast-check/vitest';
import { describe } from 'vitest';
import { playInLockstep } from '../support/lockstep.ts';
import { steps, type Step } from '../support/operations.ts';
import { temporaryDatabase } from '../support/postgres/database.ts';

async function play(story: readonly Step[]): Promise<void> {
  await using database = await temporaryDatabase();
  // Another server's store each time: what one of them keeps in memory must not matter.
  const open = () => database.open({ clock: 'server' });
  await playInLockstep({ store: await open(), reopen: open, read: () => database.read() }, story);
}

describe('the store on PostgreSQL', () => {
  test.prop([steps(60)], { numRuns: 5, interruptAfterTimeLimit: 40_000 })(
    'comes to the same table as the store in memory',
    play,
    120_000,
  );
});
