import { z } from 'zod';
import { check } from '../../db/check/check.ts';
import { openSnapshot } from '../../db/snapshot.ts';
import { defineCommand, exitCodes, jsonFlag } from '../command.ts';
import { reportingStoreErrors, storeLocation, storeSettings } from '../store-settings.ts';

export const command = defineCommand({
  settings: z.strictObject({
    ...storeSettings,
    flaws_shown: z.int().min(1).max(1_000).default(20).meta({ description: 'Most flaws that are listed' }),
  }),
  flags: jsonFlag,
  details: `Slices are disjoint; extents, leases and shared blocks tile each of them; every row agrees with those that it refers to
and with what the log told of it; the log has no gap. Looked at in one state of the database, with nothing of the code that
grants, so that a mistake there shows here. On SQLite the file itself is looked through too, which a server does by itself
only when it is small and was not closed. Servers go on meanwhile.`,
  run: (settings, { print, complain }) =>
    reportingStoreErrors(complain, async () => {
      await using snapshot = await openSnapshot(storeLocation(settings));
      const { revision, counts, flaws, flawCount } = await check(snapshot);
      if (settings.json) {
        const document = { revision, counts, flaw_count: flawCount, flaws: flaws.slice(0, settings.flaws_shown) };
        print(JSON.stringify(document, null, 2));
        return flawCount === 0 ? exitCodes.ok : exitCodes.failure;
      }
      const { slices, leases, sessions, events } = counts;
      print(`checked     ${slices} slices, ${leases} leases, ${sessions} sessions, ${events} entries of the log`);
      print(`revision    ${revision}`);
      print(`flaws       ${flawCount}`);
      for (const flaw of flaws.slice(0, settings.flaws_shown)) complain(flaw);
      return flawCount === 0 ? exitCodes.ok : exitCodes.failure;
    }),
});
