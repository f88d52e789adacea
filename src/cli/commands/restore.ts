import { randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { access, constants } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { z } from 'zod';
import { restore } from '../../db/dump/restore.ts';
import { defineCommand, exitCodes } from '../command.ts';
import { reportingStoreErrors, storeLocation, storeSettings } from '../store-settings.ts';

export const command = defineCommand({
  settings: z.strictObject({
    ...storeSettings,
    moved: z.boolean().default(false).meta({
      description: 'Nothing was changed after the dump: the table goes on here as the very same',
    }),
    file: z.string().optional().meta({ description: 'Dump to read; standard input without' }),
  }),
  details: `Into an empty database only, all or nothing, and checked before it is kept. What was answered after the dump is not in it,
so the server that is started on it is read-only until every machine has told what it has, or an operator confirms
(POST /v1/server/confirm-epoch). With --moved it goes on at once: for a dump that was made after the last server was
stopped. Access tokens are restored, their secrets are with whoever has them.`,
  run: ({ file, moved, ...settings }, { print, complain }) =>
    reportingStoreErrors(complain, async () => {
      try {
        if (file !== undefined) await access(file, constants.R_OK);
      } catch (error) {
        complain(`${file} cannot be read (${error instanceof Error ? error.message : String(error)})`);
        return exitCodes.failure;
      }
      const input = file === undefined ? process.stdin : createReadStream(file);
      const lines = createInterface({ input, crlfDelay: Infinity });
      const { rows, revision } = await restore(storeLocation(settings), lines, { newEpoch: randomUUID, moved });
      print(`restored    ${rows} rows`);
      print(`revision    ${revision}`);
      return exitCodes.ok;
    }),
});
