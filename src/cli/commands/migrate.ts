import { randomUUID } from 'node:crypto';
import { z } from 'zod';
import { migrateStore, standingAt } from '../../db/migrate.ts';
import { defineCommand, exitCodes, jsonFlag } from '../command.ts';
import { reportingStoreErrors, storeLocation, storeSettings } from '../store-settings.ts';

export const command = defineCommand({
  settings: z.strictObject({
    ...storeSettings,
    check: z.boolean().default(false).meta({ description: 'Change nothing; fail when something is missing' }),
  }),
  flags: jsonFlag,
  details: `A server does this by itself when it starts. Done before, it tells apart what fails: the tables, or the server.`,
  run: (settings, { print, complain }) =>
    reportingStoreErrors(complain, async () => {
      const location = storeLocation(settings);
      const { steps, applied } = await standingAt(location);
      const missing = steps.slice(applied);
      if (!settings.check) await migrateStore(location, { newEpoch: randomUUID, nowUs: () => Date.now() * 1_000 });
      const code = settings.check && missing.length > 0 ? exitCodes.failure : exitCodes.ok;
      if (settings.json) {
        const done = settings.check ? { missing, applied: [] } : { missing: [], applied: missing };
        print(JSON.stringify({ ...done, schema: steps.at(-1) }, null, 2));
        return code;
      }
      for (const step of missing) print(`${settings.check ? 'missing' : 'applied'}   ${step}`);
      if (missing.length === 0) print(`up to date (${steps.at(-1)})`);
      return code;
    }),
});
